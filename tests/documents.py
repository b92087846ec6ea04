"""The blocks of README and docs, and the commands in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
RUN = ("bash", "python", "yaml")
SHOWN = ("text", "json")
"""Languages of blocks that are not run: what a command printed, a file that it left, an equation."""


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The commands of a bash block, each as words; what is behind # is left out, and lines ended by \\ are joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page, in their order; of some languages only where these are named."""
    found = []
    fence: tuple[int, str, list[str]] | None = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if mark := re.fullmatch(r"```(\S*)", line):
            if fence is None:
                fence = (number, mark[1], [])
            else:
                found.append(Block(page, fence[0], fence[1], "".join(f"{one}\n" for one in fence[2])))
                fence = None
        elif fence is not None:
            fence[2].append(line)
    assert fence is None, f"{page}:{fence[0]}: the block does not end"
    return [block for block in found if not languages or block.language in languages]
