"""A student on the Hugging Face Hub: its folder in one commit, under a card that says what it is made of and how fast it is.

The token is that of `hf auth login` or HF_TOKEN; it is never an option, where a shell would remember it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.base.errors import DataError, RecipeError, ResourceError, VerifyError
from understudy.models.card import card_text
from understudy.models.handover import read_handover

CARD = "README.md"


def push(
    path: Path | str,
    repo: str,
    *,
    public: bool = False,
    license: str | None = None,
    languages: Sequence[str] = (),
    base_model: str | None = None,
    datasets: Sequence[str] = (),
    message: str = "Student, with its card",
) -> dict[str, Any]:
    """Upload the student of a run, a student's folder or an export.

    Args:
        path: folder of a run (its card then has the measured latency), of a student, or of an export.
        repo: OWNER/NAME on the Hub; made, private unless `public`, where it is not there.
        license: of the student, as the Hub calls it (`apache-2.0`). None: that of the model it was made from.
        languages: codes such as `en`. None given: those of the model it was made from.
        base_model: the model it was made from, where the card does not name it.
        datasets: data sets on the Hub it learnt from, beside those that the card names.

    Returns:
        `url`, `commit`, `files` and `card` (what the metadata of the card say).

    Raises:
        RecipeError: no such name, or nobody is logged in. DataError: no student is there. VerifyError: a file has changed.
        ResourceError: the Hub cannot be reached, or refuses.
    """
    run, folder = Path(path), Path(path)
    if (run / "result.json").is_file():
        folder = run / "student"
        disk.require_intact(run, ("result.json",))
    if not (folder / "config.json").is_file():
        raise DataError(f"{path} holds no student: neither a finished run nor a model's folder.")
    if wrong := disk.problems(folder) if (folder / disk.MANIFEST).is_file() else []:
        raise VerifyError(f"{wrong[0]}. Nothing was uploaded; restore the folder, or repeat the run in a new one.")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo):
        raise RecipeError(f"REPO: '{repo}' is not OWNER/NAME, as the Hub calls a repository.")
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if get_token() is None:
        raise RecipeError("Nobody is logged in to the Hub: `hf auth login`, or set HF_TOKEN to a token that may write.")
    api = HfApi()
    try:
        card = _card(api, folder, run, repo, license, languages, base_model, datasets)
        files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in (disk.MANIFEST, CARD, ".lock"))
        names = [file.relative_to(folder).as_posix() for file in files]
        operations = [CommitOperationAdd(name, str(file)) for name, file in zip(names, files, strict=True)]
        operations.append(CommitOperationAdd(CARD, str(card).encode()))
        api.create_repo(repo, private=not public, exist_ok=True)
        made = api.create_commit(repo, operations, commit_message=message)
    except (HfHubHTTPError, OSError) as error:  # the client's errors about connections are OSErrors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ResourceError(f"{repo}: {reason} What is there is whole: files appear in one commit, or not at all.") from None
    url = made.commit_url.partition("/commit/")[0]
    return {"url": url, "commit": made.oid, "files": [*names, CARD], "card": card.data.to_dict()}


def _card(
    api: Any, folder: Path, run: Path, repo: str, license: str | None, languages: Sequence[str], base_model: str | None,
    datasets: Sequence[str],
) -> Any:  # fmt: skip
    """The folder's card with the names given, and with what the Hub knows of the model it was made from."""
    from huggingface_hub import ModelCard

    text = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else "# Student\n"
    if run != folder:  # the student's own card leaves times out, so that equal students are equal to the last byte
        stock = not (folder / "structure.json").is_file()
        text = card_text(disk.read_json(run / "result.json"), stock=stock, handover=read_handover(folder))
    card = ModelCard(text.replace('model="."', f'model="{repo}"'), ignore_metadata_errors=True)
    data: Any = card.data  # its keys are not known to the type
    data.base_model = base_model or data.base_model
    bases = [data.base_model] if isinstance(data.base_model, str) else list(data.base_model or [])
    known = _known(api, bases[0]) if bases and not (license and languages) else {}
    data.license = license or data.license or known.get("license")
    data.language = list(languages) or data.language or known.get("language")
    data.datasets = sorted({*(data.datasets or []), *datasets}) or None
    return card


def _known(api: Any, name: str) -> Mapping[str, Any]:
    """What a model's own card says on the Hub; nothing where it is not there."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        said = api.model_info(name).card_data
    except RepositoryNotFoundError:
        return {}
    return said.to_dict() if said else {}


def lines(made: Mapping[str, Any], repo: str) -> list[str]:
    """What was uploaded, and what the card lacks."""
    missing = {"license": "--license apache-2.0", "language": "--language en", "base_model": "--base-model OWNER/NAME"}
    lacks = [option for key, option in missing.items() if not made["card"].get(key)]
    said = [f"{len(made['files'])} files in commit {made['commit'][:10]}", f"hub      {made['url']}"]
    return said + ([f"The card of {repo} says nothing of {', '.join(lacks)}: give it, and push again."] if lacks else [])
