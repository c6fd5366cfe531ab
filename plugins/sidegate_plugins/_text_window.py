"""A text that comes in pieces, looked through for patterns: what is found never hangs on where it was cut.

Only what may still become a match is held back. `Window` is for plain text. `JsonWindow` is for JSON text: it looks
at what is inside of its strings, unescaped, so that `\\u0040` hides nothing, and escapes what it puts there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from sidegate.errors import Refusal
from sidegate_plugins._text_pattern import Pattern

Check: TypeAlias = Callable[[str], int]
"""How many characters of what an expression has matched are really it; 0 for none."""
Found: TypeAlias = tuple[int, int, int]
"""The number of a pattern, and where it begins and ends."""
Ahead: TypeAlias = dict[int, Found]
"""The next match of each pattern."""
Replaced: TypeAlias = Callable[[int, str], str]
"""What is said instead of what was found, by the number of its pattern and its text. May raise."""

_SLICE = 4096
"""Characters that are looked through at once: other threads may run between."""
_LONG = 256
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPE = re.compile(
    r"\\(?:u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})|u(?P<code>[0-9a-fA-F]{4})|(?P<letter>[^u]))",
    re.DOTALL,
)
_UNFINISHED = re.compile(r"\\(?:u[0-9a-fA-F]{0,3}|u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?)?\Z")
_INSIDE = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_BETWEEN = re.compile(r'[^"]*')
_TO_ESCAPE = re.compile(r'["\\\x00-\x1f\ud800-\udfff]')
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Patterns:
    """What is looked for, compiled once. Where two match at one place, the one that stands first counts."""

    def __init__(self, patterns: Sequence[Pattern], checks: Sequence[Check | None] = ()) -> None:
        self._checks = tuple(checks) or (None,) * len(patterns)
        self._any = re.compile("|".join(f"({pattern.full})" for pattern in patterns))
        self._each = [re.compile(pattern.full) for pattern in patterns]
        self._any_begun = re.compile("|".join(pattern.begun for pattern in patterns))
        self._each_begun = [(re.compile(pattern.begun), pattern.reach) for pattern in patterns]
        self.behind = max(pattern.behind for pattern in patterns)

    def find(self, text: str, start: int, stop: int, ahead: Ahead | None = None) -> Found | None:
        """The first match that begins from `start` on and before `stop`. `ahead`, of a long text, is kept by the caller
        between questions about it: each pattern is then asked alone, which is faster where little is found."""
        if ahead is not None:
            return self._nearest(text, start, stop, ahead)
        while (found := self._any.search(text, start)) is not None and found.start() < stop:
            place, first = found.start(), (found.lastindex or 1) - 1
            if (end := self._end(first, found)) > place:
                return first, place, end
            for number in range(first + 1, len(self._each)):
                other = self._each[number].match(text, place)
                if other is not None and (end := self._end(number, other)) > place:
                    return number, place, end
            start = place + 1
        return None

    def _nearest(self, text: str, start: int, stop: int, ahead: Ahead) -> Found | None:
        nearest: Found | None = None
        for number in range(len(self._each)):
            known = ahead.get(number)
            if known is None or known[1] < start:
                known = ahead[number] = self._next(number, text, start)
            if known[1] < stop and (nearest is None or known[1] < nearest[1]):
                nearest = known
        return nearest

    def _next(self, number: int, text: str, start: int) -> Found:
        while (found := self._each[number].search(text, start)) is not None:
            if (end := self._end(number, found)) > found.start():
                return number, found.start(), end
            start = found.start() + 1
        return number, len(text), len(text)

    def begun(self, text: str, start: int) -> int:
        """From where what is there may still become a match, or another one; the end of the text if nothing may."""
        if len(text) - start <= _LONG:
            found = self._any_begun.search(text, start)
            return len(text) if found is None else found.start()
        nearest = len(text)
        for begun, reach in self._each_begun:
            if (found := begun.search(text, max(start, len(text) - reach))) is not None:
                nearest = min(nearest, found.start())
        return nearest

    def _end(self, number: int, found: re.Match[str]) -> int:
        check = self._checks[number]
        return found.end() if check is None else found.start() + check(found[0])


class Rewriter(Protocol):
    """Gives back, piece by piece, what a text becomes."""

    @property
    def held(self) -> int: ...
    def feed(self, piece: str) -> str: ...
    def flush(self) -> str: ...


class Window:
    """A plain text."""

    def __init__(self, patterns: Patterns, replaced: Replaced) -> None:
        self._patterns = patterns
        self._replaced = replaced
        self._text = ""
        self._start = 0
        """In `_text`, from where on nothing is decided; before it is what an expression may look back at."""
        self._given = 0
        """Of what is not decided, the characters that were given all the same, by `flush`."""

    @property
    def held(self) -> int:
        """Characters that are held back."""
        return len(self._text) - self._start - self._given

    def feed(self, piece: str) -> str:
        """What may be given now. Raises `Refusal` where something is found that began before a `flush`."""
        if len(piece) <= _SLICE:
            return self._next(piece, last=False)
        return "".join(self._next(piece[at : at + _SLICE], last=False) for at in range(0, len(piece), _SLICE))

    def flush(self) -> str:
        """What is left, because other content comes first, or nothing more."""
        return self._next("", last=True)

    def _next(self, piece: str, *, last: bool) -> str:
        text, start, said = self._text + piece, self._start, ""
        ahead: Ahead | None = {} if len(text) - start > _LONG else None
        stop = len(text) if last else self._patterns.begun(text, start)
        while (found := self._patterns.find(text, start, stop, ahead)) is not None:
            number, begin, end = found
            if begin < start + self._given:
                raise Refusal(502, "split_text", "Text went on after other content, inside of what is looked for.")
            said += text[start + self._given : begin] + self._replaced(number, text[begin:end])
            self._given, start = 0, end
            stop = len(text) if last else self._patterns.begun(text, start)
        if last:
            # It may go on in spite of all: what was given is looked at again.
            stop = self._patterns.begun(text, start)
            said += text[start + self._given :]
            self._given = len(text) - stop
        else:
            said += text[start + self._given : stop]
            self._given = max(self._given - (stop - start), 0)
        context = max(stop - self._patterns.behind, 0)
        self._text, self._start = text[context:], stop - context
        return said


class JsonWindow:
    """A JSON text: each of its strings, and what stands between them, is looked at by itself."""

    def __init__(self, patterns: Patterns, replaced: Replaced) -> None:
        self._patterns = patterns
        self._replaced = replaced
        self._unread = ""
        """An escape that is not whole yet."""
        self._inside = False
        self._escapes = False
        """The string has some, so that a character may be twelve."""
        self._window = Window(patterns, self._between)

    @property
    def held(self) -> int:
        """Characters of the JSON text, at most."""
        return self._window.held * (12 if self._escapes else 1) + len(self._unread)

    def feed(self, piece: str) -> str:
        text, self._unread = self._unread + piece, ""
        said: list[str] = []
        at = 0
        while (end := self._end(text, at)) < len(text) and text[end] == '"':
            said += (self._feed(text[at:end]), self._rest(), '"')
            self._inside, self._escapes = not self._inside, False
            self._window = Window(self._patterns, self._replaced if self._inside else self._between)
            at = end + 1
        if self._inside and (cut := _UNFINISHED.search(text, max(at, len(text) - 12))) and _escapes(text, cut.start()):
            text, self._unread = text[: cut.start()], text[cut.start() :]
        said.append(self._feed(text[at:]))
        return "".join(said)

    def _end(self, text: str, at: int) -> int:
        """Where what is read now ends: at the next quotation mark, or with the text."""
        found = (_INSIDE if self._inside else _BETWEEN).match(text, at)
        return len(text) if found is None else found.end()

    def flush(self) -> str:
        rest, self._unread = self._rest() + self._unread, ""
        return rest

    def _feed(self, text: str) -> str:
        if not self._inside:
            return self._window.feed(text)
        self._escapes = self._escapes or "\\" in text
        return escaped(self._window.feed(_unescaped(text)))

    def _rest(self) -> str:
        return escaped(self._window.flush()) if self._inside else self._window.flush()

    def _between(self, number: int, value: str) -> str:
        """A number gives way to a string."""
        said = self._replaced(number, value)
        return f'"{escaped(said)}"' if _NUMBER.fullmatch(value) and said != value else said


def rewritten(text: str, patterns: Patterns, replaced: Replaced, *, is_json: bool = False) -> str:
    """A whole text."""
    window = (JsonWindow if is_json else Window)(patterns, replaced)
    return window.feed(text) + window.flush()


def escaped(text: str) -> str:
    """As it stands inside of a JSON string."""
    return _TO_ESCAPE.sub(_escape, text) if _TO_ESCAPE.search(text) else text


_SHORT = {letter: f"\\{name}" for name, letter in _ESCAPES.items() if name != "/"}


def _escape(found: re.Match[str]) -> str:
    return _SHORT.get(found[0]) or f"\\u{ord(found[0]):04x}"


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_meant, text) if "\\" in text else text


def _meant(found: re.Match[str]) -> str:
    if found["high"]:
        return chr(0x10000 + ((int(found["high"], 16) - 0xD800) << 10) + int(found["low"], 16) - 0xDC00)
    if found["code"]:
        return chr(int(found["code"], 16))
    return _ESCAPES.get(found["letter"], found["letter"])


def _escapes(text: str, at: int) -> bool:
    """Whether the backslash there is not escaped itself."""
    before = text[:at]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 0
