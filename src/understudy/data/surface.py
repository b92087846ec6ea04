"""The bytes that a token stands for, read off its surface in the vocabulary.

Offsets into the text would not do: tokenizers converted from SentencePiece give overlapping ones. Two conventions cover the
decoders there are: GPT-2's alphabet, in which each byte is one printable character, and SentencePiece's, with `▁` for a space
and `<0xNN>` for a single byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

_ONE_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def token_bytes(tokenizer: Any) -> list[bytes | None]:
    """Token id -> its bytes; None for special tokens, which stand for no text."""
    special = set(tokenizer.all_special_ids) | {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    read = _alphabet_bytes if _is_byte_level(tokenizer) else _piece_bytes
    return [None if i in special or token is None else read(token) for i, token in enumerate(tokens)]


def surfaces(tokenizer: Any) -> list[bytes]:
    """Token id -> the bytes by which it moves on in a text that was written with special tokens: those by their names."""
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    return [
        (token or "").encode() if found is None else found for token, found in zip(tokens, token_bytes(tokenizer), strict=True)
    ]


def first_token(tokenizer: Any) -> Callable[[bytes], int | None]:
    """bytes -> the token with which this tokenizer begins them in the middle of a text; None where it cannot tell: nothing, or a
    part of a character where surfaces are made of characters."""
    model = tokenizer.backend_tokenizer.model
    characters = {byte: character for character, byte in _alphabet().items()} if _is_byte_level(tokenizer) else None

    def first(text: bytes) -> int | None:
        if characters is not None:
            surface = "".join(characters[byte] for byte in text)
        else:
            try:
                surface = text.decode().replace(" ", "▁")
            except UnicodeDecodeError:
                return None
        tokens = model.tokenize(surface) if surface else []
        return tokens[0].id if tokens else None

    return first


def _is_byte_level(tokenizer: Any) -> bool:
    import json

    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    return '"ByteLevel"' in json.dumps([parts["pre_tokenizer"], parts["decoder"]])


def _alphabet_bytes(token: str) -> bytes:
    """In GPT-2's alphabet; an added token stands for its own characters."""
    alphabet = _alphabet()
    if all(character in alphabet for character in token):
        return bytes(alphabet[character] for character in token)
    return token.encode()


def _piece_bytes(token: str) -> bytes:
    if one := _ONE_BYTE.fullmatch(token):
        return bytes([int(one[1], 16)])
    return token.replace("▁", " ").encode()


@cache
def _alphabet() -> dict[str, int]:
    """Character -> byte: printable Latin-1 stands for itself, the others for what follows U+0100, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}
