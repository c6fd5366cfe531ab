"""Patterns whose reach is known: what is needed to look for them in a text that comes in pieces.

A pattern is a regular expression of Python's `re`, less what makes a match depend on more than itself. From its source
come the expression that is run, in which `*`, `+` and `{n,}` end at `MOST` repeats, and one for its beginnings: it
matches at the end of a text, from where a match may still begin or grow. So nothing needs to be held back that cannot
become a match, and what is found does not hang on where the text was cut. How long looking may take is bounded too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

MOST = 256
"""What `*` and `+` stand for at most."""
MOST_REACH = 4096
MOST_STEPS = 16_384
"""Characters that may be looked at, one way of reading after the other, before one place of a text is given up."""

_REPEAT = re.compile(r"\*|\+|\?|\{(?P<least>\d*)(?P<open>,(?P<most>\d*))?\}")
_FLAGS = re.compile(r"\(\?([ims]+)\)")
_GROUP = re.compile(r"\((?:\?(?:(?P<look><?[=!])|P<\w+>|(?P<flags>[ims]*(?:-[ims]+)?):)|(?!\?))")
_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[^0-9xuUNgk])", re.DOTALL)
_CLASS = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
_SAMPLE = [chr(code) for code in (*range(0x250), 0x3A9, 0x416, 0x661, 0x2013, 0x2019, 0x4E2D, 0x1F600)]
"""By these characters two classes are told apart."""
_NEVER = "(?!)"


@dataclass(frozen=True, slots=True)
class _Node:
    """A part of a pattern: its expression, and that of its beginnings, with what is known of them."""

    full: str
    begun: str = r"\Z"
    low: int = 0
    high: int = 0
    reach: int = 1
    """Characters from its begin that may be looked at."""
    steps: int = 1
    """Ways to read it, where it ends at one place."""
    chars: frozenset[str] = frozenset()
    """Characters it may hold, of the sample."""
    first: frozenset[str] | None = None
    """Those that it must begin with one of."""
    tail: frozenset[str] = frozenset()
    """Those of what it may end with sooner or later."""
    ends: int = 0
    """In how many ways besides one it may end."""
    work: int = 1
    """Characters that may be looked at to read it in all ways."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What is looked for. `full` and `begun` are expressions without groups; `reach` and `behind` are in characters."""

    full: str
    begun: str
    longest: int
    reach: int
    behind: int


@cache
def parsed(source: str) -> Pattern:
    """Raises `ValueError` saying what cannot be looked for in a stream, or would take too long."""
    try:
        re.compile(source)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is no regular expression: {error}") from None
    flags = _FLAGS.match(source)
    reader = _Reader(source, flags.end() if flags else 0)
    node = reader.alternatives()
    if not node.low:
        raise ValueError("may match the empty text")
    if node.reach > MOST_REACH:
        raise ValueError(f"may reach {node.reach} characters far, and {MOST_REACH} is the most: bound its repeats")
    if max(node.steps, node.work) > MOST_STEPS:
        raise ValueError("may take too long: its repeats can share a text in too many ways; bound or part them")
    scope = f"?{flags[1]}:" if flags else "?:"
    return Pattern(f"({scope}{node.full})", f"({scope}{node.begun})", node.high, node.reach, reader.behind)


class _Reader:
    """Reads a source that `re` has taken."""

    def __init__(self, source: str, place: int) -> None:
        self._source = source
        self._place = place
        self.behind = 1

    def alternatives(self) -> _Node:
        """Up to the end of the group, or of the source."""
        found = [self._sequence()]
        while self._source.startswith("|", self._place):
            self._place += 1
            found.append(self._sequence())
        if len(found) == 1:
            return replace(found[0], full=f"(?:{found[0].full})")
        lows, highs = [node.low for node in found], [node.high for node in found]
        return _Node(
            full=f"(?:{'|'.join(node.full for node in found)})",
            begun=f"(?:{'|'.join(node.begun for node in found)})",
            low=min(lows),
            high=max(highs),
            reach=max(node.reach for node in found),
            steps=(max if _told_apart(found) else sum)(node.steps for node in found),
            chars=_union(node.chars for node in found),
            first=_first(found),
            tail=_union(node.tail for node in found),
            ends=max(node.ends for node in found),
            work=sum(node.work for node in found),
        )

    def _sequence(self) -> _Node:
        items: list[_Node] = []
        while self._place < len(self._source) and self._source[self._place] not in "|)":
            items.append(self._repeated(self._atom()))
        return _joined(items)

    def _atom(self) -> _Node:
        source, place = self._source, self._place
        letter = source[place]
        if letter == "(":
            return self._group()
        found = (
            _CLASS.match(source, place) if letter == "[" else _ESCAPE.match(source, place) if letter == "\\" else None
        )
        if found is None and letter == "\\":
            raise ValueError(
                f"has {source[place : place + 2]}, which cannot be looked for in a text that comes in pieces"
            )
        said = found[0] if found else letter
        self._place += len(said)
        if said in (r"\b", r"\B"):
            return _Node(said)
        if said in ("^", r"\A"):
            return _Node(said, _NEVER, reach=0)
        if said in ("$", r"\Z"):
            return _Node(said, r"\n?\Z", reach=2)
        chars = _matched(said)
        return _Node(said, low=1, high=1, chars=chars, first=chars, tail=chars)

    def _group(self) -> _Node:
        opened = _GROUP.match(self._source, self._place)
        if opened is None:
            raise ValueError(f"has {self._source[self._place : self._place + 3]}, which is not for texts in pieces")
        self._place = opened.end()
        inside = self.alternatives()
        self._place += 1
        if (look := opened["look"]) is None:
            flags = opened["flags"] or ""
            return replace(inside, full=f"(?{flags}:{inside.full})", begun=f"(?{flags}:{inside.begun})")
        if look.startswith("<"):
            self.behind = max(self.behind, inside.high)
            return _Node(f"(?{look}{inside.full})", _NEVER, reach=0)
        return _Node(f"(?{look}{inside.full})", inside.begun, reach=inside.reach, steps=inside.steps)

    def _repeated(self, node: _Node) -> _Node:
        found = _REPEAT.match(self._source, self._place)
        if found is None or found[0] == "{}":
            return node
        self._place = found.end()
        lazy = self._source.startswith("?", self._place)
        self._place += lazy
        if self._source.startswith("+", self._place):
            raise ValueError("has a possessive repeat, which is not for texts in pieces")
        least, most = _bounds(found)
        if not most:
            return _Node("", _NEVER, reach=0)
        full = f"{node.full}{{{least},{most}}}"
        return _Node(
            full + "?" * lazy,
            f"(?:{node.full}{{0,{most - 1}}}{node.begun})",
            node.low * least,
            node.high * most,
            node.high * (most - 1) + node.reach,
            _steps(node, most),
            node.chars,
            node.first if least else None,
            node.tail,
            most - least + node.ends,
            most * node.work,
        )


def _bounds(found: re.Match[str]) -> tuple[int, int]:
    if found[0] in "*+?":
        return int(found[0] == "+"), 1 if found[0] == "?" else MOST
    least = int(found["least"] or 0)
    if found["open"] is None:
        return least, least
    return least, int(found["most"]) if found["most"] else max(least, MOST)


def _steps(node: _Node, most: int) -> int:
    """Ways to read a repeat: one, where each turn can only be read in one way and ends where the next one begins."""
    if most > 1 and node.ends and (node.first is None or not node.first.isdisjoint(node.tail)):
        return MOST_STEPS + 1
    ways: int = node.steps ** min(most, 64)
    return min(ways, MOST_STEPS + 1)


def _joined(items: list[_Node]) -> _Node:
    if not items:
        return _Node("", _NEVER, reach=0)
    width, reach, steps, work = 0, 0, 1, 0
    for number, item in enumerate(items):
        reach = max(reach, width + item.reach)
        width += item.high
        work += steps * item.work
        steps *= item.steps
        if item.ends and number + 1 < len(items) and not item.tail.isdisjoint(_next(items[number + 1 :])):
            steps *= item.ends + 1
        steps = min(steps, MOST_STEPS + 1)
    said = [item for item in items if item.high]
    last = next((number for number in range(len(said) - 1, -1, -1) if said[number].low), 0)
    return _Node(
        "".join(item.full for item in items),
        _begun(items),
        sum(item.low for item in items),
        width,
        reach,
        steps,
        _union(item.chars for item in items),
        said[0].first if said else None,
        _union(item.tail for item in said[last:]),
        sum(item.ends for item in said[last:]),
        work,
    )


def _next(items: list[_Node]) -> frozenset[str]:
    """What may stand next: of what may be left out, all that it holds."""
    found: frozenset[str] = frozenset()
    for item in items:
        if item.low:
            return found | (item.chars if item.first is None else item.first)
        found |= item.chars
    return frozenset(_SAMPLE)


def _begun(items: list[_Node]) -> str:
    """The end of the text comes in one of the items, after all of those before. By halves, so that it is not deep."""
    if len(items) == 1:
        return items[0].begun
    half = len(items) // 2
    return f"(?:{_begun(items[:half])}|{''.join(item.full for item in items[:half])}{_begun(items[half:])})"


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset[str]().union(*sets)


def _told_apart(nodes: list[_Node]) -> bool:
    """Whether the first character says which of them it is."""
    firsts = [node.first for node in nodes if node.first is not None]
    return len(firsts) == len(nodes) and sum(map(len, firsts)) == len(_union(firsts))


def _first(nodes: list[_Node]) -> frozenset[str] | None:
    found = [node.first for node in nodes if node.first is not None]
    return _union(found) if len(found) == len(nodes) else None


@cache
def _matched(atom: str) -> frozenset[str]:
    expression = re.compile(atom, re.IGNORECASE | re.DOTALL)
    return frozenset(letter for letter in _SAMPLE if expression.fullmatch(letter))
