"""Models from the Hugging Face Hub: fetched file by file, nothing but what is read, judged before the weights come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from understudy.base.errors import DataError, RecipeError

_TEXTS = ["*.json", "*.txt", "*.model"]
_WEIGHTS = ["model.safetensors", "model-*.safetensors"]


def hub_reachable(*, seconds: float = 5.0) -> bool:
    """Whether the Hub answers. Asked once before downloading, because the client itself retries for half a minute."""
    from huggingface_hub import constants, get_session, is_offline_mode

    if is_offline_mode():
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=seconds)
    except Exception:  # every transport has its own errors; none of them is an answer
        return False
    return True


def fetch(
    ref: str, *, key: str, revision: str | None, judge: Callable[[Path], object], weights: bool, code: bool
) -> tuple[Path, str]:
    """The local snapshot of a repository and its commit; from the cache alone where the Hub is out of reach.

    `HF_HUB_OFFLINE` is the user's and is not overridden.

    Args:
        judge: called with the folder when it holds config.json and nothing else; raises to stop the download.
        weights: fetch the safetensors too.
        code: fetch the repository's Python files too.

    Raises:
        RecipeError: no such name, revision or permission. DataError: not in the cache and no connection.
    """
    from huggingface_hub import hf_hub_download, is_offline_mode, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    local = not hub_reachable()
    wanted = _TEXTS + (_WEIGHTS if weights else []) + (["*.py"] if code else [])
    try:
        config = Path(hf_hub_download(ref, "config.json", revision=revision, local_files_only=local))
        judge(config.parent)
        commit = config.parent.name
        folder = snapshot_download(
            ref, revision=commit, allow_patterns=wanted, ignore_patterns=["*/*"], local_files_only=local
        )
        return Path(folder), commit
    except HFValidationError:
        raise RecipeError(f"{key}: '{ref}' is neither a folder here nor a possible Hub name (owner/name).") from None
    except GatedRepoError:
        raise RecipeError(
            f"{key}: '{ref}' is gated. Accept its terms on the Hub and log in (`hf auth login`), or use another model."
        ) from None
    except RevisionNotFoundError:
        raise RecipeError(f"{key}: '{ref}' has no revision '{revision}'; use a branch, tag or commit of it.") from None
    except RepositoryNotFoundError:
        raise RecipeError(
            f"{key}: '{ref}' is neither a folder here nor a model on the Hub; check the spelling, or log in if private."
        ) from None
    except RemoteEntryNotFoundError:
        raise RecipeError(f"{key}: '{ref}' on the Hub has no config.json, so it is not a transformers model.") from None
    except (LocalEntryNotFoundError, OSError):  # the client's errors about connections and answers are OSErrors
        why = "HF_HUB_OFFLINE is set" if is_offline_mode() else "the Hub cannot be reached"
        raise DataError(
            f"{key}: '{ref}' is not a folder here nor in the local Hub cache, and {why}. Give the path of a folder "
            "that holds the model, or run once with a connection."
        ) from None
