"""Words of a line, quoted or not, as redis.conf, redis-cli and inline requests write them."""

from __future__ import annotations

import re

_BLANKS = re.compile(rb"[ \t\n\v\f\r]*")
_PLAIN = re.compile(rb"""[^ \t\n\r"']+""")
_DOUBLE_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*+)"(?=[ \t\n\v\f\r]|\Z)', re.DOTALL)
_SINGLE_QUOTED = re.compile(rb"'((?:\\'|[^'])*+)'(?=[ \t\n\v\f\r]|\Z)")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_UNCOMMON = re.compile(rb"""["'\v\f\0]""")
_CONTROL = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
_WRITTEN = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b"}


_UNPRINTED = re.compile(rb"[^ !#-\[\]-~]")
_ESCAPED = [_WRITTEN.get(chr(byte), f"\\x{byte:02x}").encode() for byte in range(256)]


def split(line: bytes) -> list[bytes]:
    r"""The words of `line`, by the rules of Redis' sdssplitargs.

    Words are parted by blanks. Within "double quotes" the escapes are `\n \r \t \a \b \xHH`, and a backslash
    before anything else stands for that character; within 'single quotes' only `\'` is an escape. A closing
    quote must end its word. A NUL ends the line, as it does in C.

    Raises ValueError for unbalanced quotes. The time is linear in the length of the line.
    """
    if not _UNCOMMON.search(line):
        return line.split()
    line = line.partition(b"\0")[0]
    words: list[bytes] = []
    position = _skip_blanks(line, 0)
    while position < len(line):
        word, position = _word(line, position)
        words.append(word)
        position = _skip_blanks(line, position)
    return words


def _skip_blanks(line: bytes, position: int) -> int:
    blanks = _BLANKS.match(line, position)
    assert blanks is not None
    return blanks.end()


def _word(line: bytes, position: int) -> tuple[bytes, int]:
    """The word at `position` and where it ends. A quote may open in the middle of a word, and ends it."""
    plain = _PLAIN.match(line, position)
    start = b""
    if plain:
        start, position = plain[0], plain.end()
    opening = line[position : position + 1]
    if opening == b'"':
        quoted = _DOUBLE_QUOTED.match(line, position)
        if quoted:
            return start + _ESCAPE.sub(_meaning, quoted[1]), quoted.end()
    elif opening == b"'":
        quoted = _SINGLE_QUOTED.match(line, position)
        if quoted:
            return start + quoted[1].replace(b"\\'", b"'"), quoted.end()
    else:
        return start, position
    raise ValueError("unbalanced quotes")


def _meaning(escape: re.Match[bytes]) -> bytes:
    code = escape[1]
    if len(code) == 3:
        return bytes.fromhex(code[1:].decode())
    return _CONTROL.get(code, code)


def quote(text: str) -> str:
    r"""`text` as one word that split() reads back, in quotes only if it needs them.

    Like Redis' sdscatrepr it writes everything outside printable ASCII as `\xHH` of its UTF-8 bytes; bytes
    that are no UTF-8 are expected as surrogate escapes.
    """
    if text and all(" " < char <= "~" and char not in "\\\"'" for char in text):
        return text
    return f'"{"".join(map(_written, text))}"'


def shown(word: bytes) -> bytes:
    """A word in quotes, in one line and in printable ASCII, whatever is in it; by the same rules."""
    return b'"%b"' % _UNPRINTED.sub(lambda found: _ESCAPED[found[0][0]], word)


def _written(char: str) -> str:
    if char in _WRITTEN:
        return _WRITTEN[char]
    if " " <= char <= "~":
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
