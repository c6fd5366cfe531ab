"""JSON text that grows: read as far as it has come, by any pieces, and refused where nothing could make it JSON.

What is found is told to a `Follower` at once: a value by its first character, a string while it is said. Accepts what
RFC 8259 does, as Python's `json` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal, Protocol, TypeAlias

Kind: TypeAlias = Literal["object", "array", "string", "number", "true", "false", "null"]

LONGEST_NUMBER = 400
"""Characters of a number that are read; of a longer one it is not said what it is."""

_BLANK: Final = re.compile(r"[ \t\n\r]*")
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f]*')
_NUMERIC: Final = re.compile(r"[-+.0-9eE]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_NUMBER_SO_FAR: Final = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*|(?:\.[0-9]+)?[eE][-+]?[0-9]*)?)?")
_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HEX: Final = frozenset("0123456789abcdefABCDEF")
_KINDS: Final[dict[str, Kind]] = {
    **{"{": "object", "[": "array", '"': "string", "t": "true", "f": "false", "n": "null"},
    **dict.fromkeys("-0123456789", "number"),
}
_WORDS: Final = {"t": "true", "f": "false", "n": "null"}
_CLOSES: Final = {"object": "}", "array": "]"}


class Malformed(Exception):
    """No JSON begins like this."""


class GaveUp(Exception):
    """It is beyond what is read while it grows; nothing is said against it."""


class Follower(Protocol):
    """Told what was read, in order. May raise what it likes: it comes out of `Prefix.feed`."""

    def spend(self) -> None:
        """Called for each step, before it is done."""
        ...

    def begin(self, kind: Kind, negative: bool) -> None: ...
    def text(self, piece: str) -> None:
        """More of the string that is the value, without its escapes."""
        ...

    def end_string(self) -> None: ...
    def number(self, text: str) -> None: ...
    def end_word(self) -> None:
        """`true`, `false` or `null` is whole."""
        ...

    def key(self, name: str) -> None: ...
    def close(self) -> None: ...


class Prefix:
    """Reads one JSON text. `feed` raises `Malformed` where it has gone wrong; feed it no more then."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._step: Callable[[str, int], int] = self._value
        self._open: list[Kind] = []
        self._said = ""
        self._key: list[str] | None = None
        self._high = ""
        self._before = 0
        self._empty = False
        self.done = False
        """The value is whole; only blanks may follow. A number on its own is never known to be whole."""

    def feed(self, text: str) -> None:
        at, end = 0, len(text)
        try:
            while at < end:
                self._follower.spend()
                at = self._step(text, at)
        except Malformed as error:
            raise Malformed(f"{error} at character {self._before + at}") from None
        self._before += end

    # --- values -------------------------------------------------------------------------------------------------------

    def _value(self, text: str, at: int) -> int:
        at = _skipped(text, at)
        if at == len(text):
            return at
        first = text[at]
        if self._empty and first == "]":
            return self._closed(at)
        kind = _KINDS.get(first)
        if kind is None:
            raise Malformed("a value was expected")
        self._empty = False
        self._follower.begin(kind, first == "-")
        match kind:
            case "object" | "array":
                self._open.append(kind)
                self._empty = True
                self._step = self._property if kind == "object" else self._value
            case "string":
                self._step = self._string
            case "number":
                self._said, self._step = "", self._number
                return at
            case _:
                self._said, self._step = _WORDS[first][1:], self._word
        return at + 1

    def _ended(self) -> None:
        self.done = not self._open
        self._step = self._after

    def _after(self, text: str, at: int) -> int:
        at = _skipped(text, at)
        if at == len(text):
            return at
        if not self._open:
            raise Malformed("nothing may follow the value")
        kind = self._open[-1]
        if text[at] == _CLOSES[kind]:
            return self._closed(at)
        if text[at] != ",":
            raise Malformed(f"a comma or {_CLOSES[kind]} was expected")
        self._step = self._property if kind == "object" else self._value
        return at + 1

    def _closed(self, at: int) -> int:
        self._open.pop()
        self._empty = False
        self._follower.close()
        self._ended()
        return at + 1

    def _word(self, text: str, at: int) -> int:
        rest = self._said
        piece = text[at : at + len(rest)]
        if not rest.startswith(piece):
            raise Malformed("a value was expected")
        self._said = rest[len(piece) :]
        if not self._said:
            self._follower.end_word()
            self._ended()
        return at + len(piece)

    def _number(self, text: str, at: int) -> int:
        found = _NUMERIC.match(text, at)
        assert found is not None
        self._said += found.group()
        if len(self._said) > LONGEST_NUMBER:
            raise GaveUp
        if not _NUMBER_SO_FAR.fullmatch(self._said):
            raise Malformed("a number is written otherwise")
        if found.end() < len(text):
            if not _NUMBER.fullmatch(self._said):
                raise Malformed("a number is written otherwise")
            self._follower.number(self._said)
            self._ended()
        return found.end()

    # --- names and strings --------------------------------------------------------------------------------------------

    def _property(self, text: str, at: int) -> int:
        at = _skipped(text, at)
        if at == len(text):
            return at
        if self._empty and text[at] == "}":
            return self._closed(at)
        if text[at] != '"':
            raise Malformed("a property's name was expected")
        self._empty = False
        self._key = []
        self._step = self._string
        return at + 1

    def _colon(self, text: str, at: int) -> int:
        at = _skipped(text, at)
        if at == len(text):
            return at
        if text[at] != ":":
            raise Malformed("a colon was expected")
        self._step = self._value
        return at + 1

    def _string(self, text: str, at: int) -> int:
        found = _PLAIN.match(text, at)
        assert found is not None
        end = found.end()
        if end > at:
            self._say(found.group())
        if end == len(text):
            return end
        if text[end] == "\\":
            self._step = self._escape
        elif text[end] == '"':
            self._end_string()
        else:
            raise Malformed("a control character stands in a string")
        return end + 1

    def _end_string(self) -> None:
        self._say("")
        if self._key is None:
            self._follower.end_string()
            self._ended()
            return
        name, self._key = "".join(self._key), None
        self._follower.key(name)
        self._step = self._colon

    def _escape(self, text: str, at: int) -> int:
        if text[at] == "u":
            self._said, self._step = "", self._unicode
            return at + 1
        if (character := _ESCAPES.get(text[at])) is None:
            raise Malformed("there is no such escape")
        self._say(character)
        self._step = self._string
        return at + 1

    def _unicode(self, text: str, at: int) -> int:
        piece = text[at : at + 4 - len(self._said)]
        if not _HEX.issuperset(piece):
            raise Malformed("an escape has four digits")
        self._said += piece
        if len(self._said) == 4:
            self._say_escaped(chr(int(self._said, 16)))
            self._step = self._string
        return at + len(piece)

    def _say_escaped(self, unit: str) -> None:
        """One unit of UTF-16: two of them may be one character."""
        if self._high and "\udc00" <= unit <= "\udfff":
            unit = (self._high + unit).encode("utf-16", "surrogatepass").decode("utf-16")
            self._high = ""
        if "\ud800" <= unit <= "\udbff":
            self._say("")
            self._high = unit
        else:
            self._say(unit)

    def _say(self, piece: str) -> None:
        if self._high:
            piece, self._high = self._high + piece, ""
        if not piece:
            return
        if self._key is None:
            self._follower.text(piece)
        else:
            self._key.append(piece)


def _skipped(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    assert found is not None
    return found.end()
