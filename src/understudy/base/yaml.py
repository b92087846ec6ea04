"""Strict YAML 1.2: plain data and the line of every key, from text that nobody has to trust.

YAML 1.2, so that `no` is a language, `1e-5` a number and `12:30:00` a text. Refused: duplicate keys, tags, several
documents, dates as anything but text, and files that are too big, too deep or blown up by aliases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from understudy.base.errors import RecipeError

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 32
MAX_ALIASES = 16
MAX_NODES = 100_000

Path = tuple[str | int, ...]
_CORE_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "timestamp")}


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
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    if len(text) > MAX_CHARACTERS:
        raise RecipeError(f"{source}: {len(text):,} characters is too long for YAML here (at most {MAX_CHARACTERS:,}).")
    reader = ruamel.yaml.YAML(typ="safe", pure=True)
    reader.version = (1, 2)
    try:
        _check_events(reader, text, source)
        node = reader.compose(text)
        return _Builder(reader.constructor, source).document(node)
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


class _Builder:
    """Turns the node graph into plain data; aliases are copied, and one inside its own anchor is refused."""

    def __init__(self, constructor: Any, source: str) -> None:
        self.constructor = constructor
        self.source = source
        self.lines: dict[Path, int] = {}
        self.open: set[int] = set()
        self.built = 0

    def document(self, node: Any) -> Document:
        return Document(None if node is None else self.value(node, ()), self.lines)

    def value(self, node: Any, path: Path) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self.built += 1
        if self.built > MAX_NODES or len(path) > MAX_DEPTH or id(node) in self.open:
            raise RecipeError(f"{self.source}: line {line}: aliases blow this file up; write the values out.")
        self.open.add(id(node))
        try:
            if node.id == "mapping":
                return self.mapping(node, path)
            if node.id == "sequence":
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self.scalar(node)
        finally:
            self.open.discard(id(node))

    def mapping(self, node: Any, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.id != "scalar":
                raise RecipeError(f"{self.source}: line {line}: a key must be plain text.")
            key = key_node.value
            if key in result:
                raise RecipeError(f"{self.source}: line {line}: '{key}' is given a second time; keep one of them.")
            self.lines[(*path, key)] = line
            result[key] = self.value(value_node, (*path, key))
        return result

    def scalar(self, node: Any) -> Any:
        tag, where = str(node.tag), f"{self.source}: line {node.start_mark.line + 1}"
        if tag not in _CORE_TAGS:
            raise RecipeError(f"{where}: {tag} is not accepted; write a plain value.")
        if tag.endswith((":str", ":timestamp")):
            if any("\ud800" <= character <= "\udfff" for character in node.value):
                raise RecipeError(f"{where}: half a character (a lone surrogate); write the character itself.")
            return node.value
        try:
            return self.constructor.construct_object(node)
        except (ValueError, OverflowError):
            raise RecipeError(f"{where}: '{node.value[:40]}' is not a usable number.") from None
