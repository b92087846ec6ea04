"""Where what runs share is kept: fine-tuned teachers (`steps`), what teachers say (`signals`)."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """$UNDERSTUDY_HOME, else ~/.cache/understudy."""
    given = os.environ.get("UNDERSTUDY_HOME")
    return Path(given) if given else Path.home() / ".cache" / "understudy"
