"""The name this package is published under. On PyPI `understudy` is somebody else's; import and command are called so all the
same, and where both are installed, each has overwritten files of the other."""

from __future__ import annotations

import os
import re
from pathlib import Path

NAME = "understudy-lm"


def clash(folder: Path = Path(__file__).parents[2]) -> str | None:
    """A sentence on the other package where it is installed into the same folder as this one (site-packages); else None.

    One listing of a folder, so that every start can afford it; importlib.metadata alone would take ten times as long.
    """
    try:
        found = [re.fullmatch(r"understudy-([0-9][^-]*)\.(?:dist|egg)-info", name) for name in os.listdir(folder)]
    except OSError:  # in an archive
        return None
    versions = [match[1] for match in found if match]
    if not versions:
        return None
    return (
        f"Somebody else's package `understudy` ({versions[0]}) is installed in the same folder as {NAME}, and each overwrites "
        f"files of the other. `pip uninstall -y understudy {NAME}`, then `pip install {NAME}` mends it."
    )
