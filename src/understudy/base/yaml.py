"""Strict YAML 1.2: plain data and the line of every key, from untrusted text.

YAML 1.2, so that `no` is a language, `1e-5` a number and `12:30:00` a text. Refused: duplicate keys, tags, several
documents, dates as anything but text, and files that are too big, too deep or blown up by aliases.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from understudy.base.errors import RecipeError

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 32
MAX_ALIASES = 16
MAX_NODES = 100_000

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None) and, for each path of keys in it, the line it starts at."""

    data: Any
    lines: dict[Path, int]


def parse(text: str, source: str) -> Document:
    """Read one YAML document.

    `source` names the file in messages. Raises `RecipeError` with the line of whatever is wrong; hostile input is
    refused before anything is built from it.
    """
    import ruamel.yaml
    from ruamel.yaml.constructor import DuplicateKeyError, RoundTripConstructor
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    class Constructor(RoundTripConstructor):
        """Dates stay the text that was written."""

    Constructor.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: node.value)

    if len(text) > MAX_CHARACTERS:
        raise RecipeError(f"{source}: {len(text):,} characters is too long for YAML here (at most {MAX_CHARACTERS:,}).")
    reader = ruamel.yaml.YAML(pure=True)
    reader.version = (1, 2)
    reader.Constructor = Constructor
    try:
        _check_events(reader, text, source)
        plain = _Plain(source)
        return Document(plain.value(reader.load(text), (), 1), plain.lines)
    except DuplicateKeyError as error:
        key, mark = str(error.problem).split('"')[1], error.problem_mark
        raise RecipeError(f"{source}: line {mark.line + 1}: '{key}' is given a second time; keep one of them.") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}:" if mark else ""
        raise RecipeError(f"{source}:{where} not valid YAML: {error.problem or error.context}.") from None
    except YAMLError as error:
        raise RecipeError(f"{source}: not valid YAML: {str(error).splitlines()[0]}.") from None


def dump(data: Any, *, flow: bool = False) -> str:
    """Plain data as YAML that `parse` reads back unchanged: in blocks, or with `flow` in one line."""
    import io

    import ruamel.yaml

    writer = ruamel.yaml.YAML(typ="safe", pure=True)
    writer.default_flow_style = flow
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.allow_unicode = True
    writer.width = 10_000
    stream = io.StringIO()
    writer.dump(data, stream)
    return stream.getvalue()


def _check_events(reader: Any, text: str, source: str) -> None:
    """Walk the token stream once, without recursion, and stop at the first excess."""
    depth = aliases = documents = 0
    for nodes, event in enumerate(reader.parse(text)):
        kind, line = type(event).__name__, event.start_mark.line + 1
        if kind in ("MappingStartEvent", "SequenceStartEvent"):
            depth += 1
            if depth > MAX_DEPTH:
                raise RecipeError(f"{source}: line {line}: nested more than {MAX_DEPTH} levels deep.")
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            depth -= 1
        elif kind == "AliasEvent":
            aliases += 1
            if aliases > MAX_ALIASES:
                raise RecipeError(f"{source}: line {line}: more than {MAX_ALIASES} aliases; write the values out.")
        elif kind == "DocumentStartEvent":
            documents += 1
            if event.version not in (None, (1, 2)):
                raise RecipeError(f"{source}: line {line}: this is YAML 1.2; remove the %YAML line.")
            if documents > 1:
                raise RecipeError(f"{source}: line {line}: a second document starts here (`---`); one file holds one.")
        if nodes > MAX_NODES:
            raise RecipeError(f"{source}: line {line}: more than {MAX_NODES:,} values.")
        if getattr(event, "ctag", None) is not None:
            raise RecipeError(f"{source}: line {line}: tags such as {event.tag} are not accepted; write a plain value.")
        if kind == "ScalarEvent" and not event.style and re.fullmatch(r"[-+]?[\d_]{400,}", event.value):
            raise RecipeError(f"{source}: line {line}: '{event.value[:40]}…' is not a usable number.")


class _Plain:
    """Turns what ruamel read, which remembers its lines, into plain data. Aliases are copied."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[Path, int] = {}
        self.built = 0

    def value(self, node: Any, path: Path, line: int) -> Any:
        from ruamel.yaml.scalarbool import ScalarBoolean

        self.lines.setdefault(path, line)
        self.built += 1
        where = f"{self.source}: line {line}"
        if self.built > MAX_NODES or len(path) > MAX_DEPTH:  # an alias may stand inside its own anchor
            raise RecipeError(f"{where}: aliases blow this file up; write the values out.")
        if isinstance(node, dict):
            return self.mapping(node, path, line)
        if isinstance(node, list):
            places: Any = node
            return [self.value(item, (*path, i), places.lc.item(i)[0] + 1) for i, item in enumerate(node)]
        if isinstance(node, str):
            if any("\ud800" <= character <= "\udfff" for character in node):
                raise RecipeError(f"{where}: half a character (a lone surrogate); write the character itself.")
            return str(node)
        if node is None or isinstance(node, bool):
            return node
        if isinstance(node, ScalarBoolean):
            return bool(node)
        if isinstance(node, int | float):  # of a class that remembers how it was written
            return int(node) if isinstance(node, int) else float(node)
        raise RecipeError(f"{where}: {str(node)[:40]!r} is not accepted; write a plain value.")

    def mapping(self, node: Any, path: Path, line: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for written, item in node.items():
            own = node.lc.data.get(written)  # what a merge (`<<`) brought along has no line here
            at = own[0] + 1 if own else line
            if isinstance(written, list | tuple | dict):
                raise RecipeError(f"{self.source}: line {at}: a key must be plain text.")
            key = str(written) if isinstance(written, str) else json.dumps(written, default=str)  # 1, true, null
            if key in result:
                raise RecipeError(f"{self.source}: line {at}: '{key}' is given a second time; keep one of them.")
            self.lines[(*path, key)] = at
            result[key] = self.value(item, (*path, key), at)
        return result
