"""A text that fits a simple regular expression, without ever running one: the expression is a caller's, and hostile.

Understood: literals, escapes, `.`, character classes, groups, `|` (the first branch), anchors at either end, and all
quantifiers. Not understood: look-around, back-references, named groups, properties. Then there is no text.
"""

from __future__ import annotations

from itertools import chain

_LONGEST = 1000
"""Characters of a text, and of an expression."""
_DEEPEST = 16

Ranges = list[tuple[str, str]]

_CLASSES: dict[str, Ranges] = {
    "d": [("0", "9")],
    "w": [("a", "z"), ("A", "Z"), ("0", "9"), ("_", "_")],
    "s": [(" ", " "), ("\t", "\r")],
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_CANDIDATES = [chr(code) for code in chain(range(97, 123), range(65, 91), range(48, 58), range(32, 127))]


class _NotSimple(Exception):
    """Beyond what is understood here."""


def text_for(pattern: str, shortest: int = 0) -> str | None:
    """A text that fits, with at least `shortest` characters where the expression lets it grow; else `None`."""
    if len(pattern) > _LONGEST or shortest > _LONGEST:
        return None
    reader = _Reader(pattern)
    try:
        text = reader.branches(0, shortest)
        return text if reader.at == len(pattern) else None
    except (_NotSimple, IndexError):
        return None


class _Reader:
    """Reads an expression once, left to right. Running off its end is an `IndexError`."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.at = 0

    def branches(self, depth: int, shortest: int = 0) -> str:
        """The text of the first of `a|b|c`; the others are only read past."""
        if depth > _DEEPEST:
            raise _NotSimple
        first = self._branch(depth, shortest)
        while self._next() == "|":
            self.at += 1
            self._branch(depth, 0)
        return first

    def _branch(self, depth: int, shortest: int) -> str:
        atoms: list[tuple[str, int, int]] = []
        while self._next() not in ("", "|", ")"):
            atom = self._atom(depth)
            low, high = self._times()
            if len(atom) * low > _LONGEST or high < low:
                raise _NotSimple
            atoms.append((atom, low, high))
        return _grown(atoms, shortest)

    def _next(self) -> str:
        return self._pattern[self.at : self.at + 1]

    def _take(self) -> str:
        character = self._pattern[self.at]
        self.at += 1
        return character

    def _atom(self, depth: int) -> str:
        match self._take():
            case "^" if self.at == 1 or self._pattern[self.at - 2] in "(|":
                return ""
            case "$" if self._next() in ("", ")", "|"):
                return ""
            case "(":
                return self._group(depth)
            case "[":
                return self._class()
            case "\\":
                return _one_of(self._escape())
            case ".":
                return "a"
            case "^" | "$" | "*" | "+" | "?" | "{":
                raise _NotSimple
            case literal:
                return literal

    def _group(self, depth: int) -> str:
        if self._next() == "?":
            if self._pattern[self.at : self.at + 2] != "?:":
                raise _NotSimple
            self.at += 2
        text = self.branches(depth + 1)
        if self._take() != ")":
            raise _NotSimple
        return text

    def _escape(self) -> Ranges:
        character = self._take()
        if character in _CLASSES:
            return _CLASSES[character]
        if character.lower() in _CLASSES:
            return [(found, found) for found in [_outside(_CLASSES[character.lower()])]]
        if character in _CONTROLS:
            return [(_CONTROLS[character],) * 2]
        if character.isalnum():
            raise _NotSimple
        return [(character, character)]

    def _class(self) -> str:
        negated = self._next() == "^"
        self.at += negated
        ranges: Ranges = []
        while self._next() != "]":
            low = self._member()
            if self._next() == "-" and self._pattern[self.at + 1] != "]":
                self.at += 1
                low = [(low[0][0], self._member()[-1][1])]
            ranges += low
        self.at += 1
        if not ranges:
            raise _NotSimple
        return _outside(ranges) if negated else _one_of(ranges)

    def _member(self) -> Ranges:
        character = self._take()
        return self._escape() if character == "\\" else [(character, character)]

    def _times(self) -> tuple[int, int]:
        """How often, at least and at most; a lazy or possessive mark changes nothing here."""
        low, high = 1, 1
        match self._next():
            case "?":
                low, high = 0, 1
            case "*":
                low, high = 0, _LONGEST
            case "+":
                low, high = 1, _LONGEST
            case "{":
                low, high = self._counted()
            case _:
                return 1, 1
        self.at += 1
        self.at += self._next() in ("?", "+")
        return low, high

    def _counted(self) -> tuple[int, int]:
        """`{2}`, `{2,}` or `{2,5}`; stays on the closing brace."""
        end = self._pattern.find("}", self.at, self.at + 12)
        low, comma, high = self._pattern[self.at + 1 : end].partition(",")
        if end < 0 or not low.isdecimal() or not (high.isdecimal() or not high):
            raise _NotSimple
        self.at = end
        return int(low), int(high) if high else _LONGEST if comma else int(low)


def _grown(atoms: list[tuple[str, int, int]], shortest: int) -> str:
    """Each atom as seldom as it may stand; those that may stand more often, until the text is long enough."""
    missing = shortest - sum(len(atom) * low for atom, low, _ in atoms)
    text: list[str] = []
    for atom, low, high in atoms:
        more = min(high - low, -(-missing // len(atom))) if missing > 0 and atom else 0
        missing -= more * len(atom)
        text.append(atom * (low + more))
    joined = "".join(text)
    if len(joined) > _LONGEST:
        raise _NotSimple
    return joined


def _one_of(ranges: Ranges) -> str:
    return ranges[0][0]


def _outside(ranges: Ranges) -> str:
    for candidate in _CANDIDATES:
        if not any(low <= candidate <= high for low, high in ranges):
            return candidate
    raise _NotSimple
