"""Citing: where in a reply its citations stand, for dialects that say it by places in the text.

A citation that says no place is one of all the text of its block. Places are reckoned from what was written, so that
they are right whatever was changed on the way.
"""

from __future__ import annotations

from typing import NamedTuple

from sidegate.contract.meaning import Citation


class Placed(NamedTuple):
    """A citation, and its place in the text of its choice, in characters."""

    citation: Citation
    start: int
    end: int


class Cited:
    """The texts and the citations of one reply, by choice."""

    __slots__ = ("_citations", "_texts")

    def __init__(self) -> None:
        self._texts: dict[int, list[tuple[int, str]]] = {}
        self._citations: dict[int, list[Citation]] = {}

    def say(self, text: str, choice: int, block: int) -> None:
        """A piece of text is written."""
        self._texts.setdefault(choice, []).append((block, text))

    def cite(self, citation: Citation) -> None:
        """Each source of a text is kept once."""
        known = self._citations.setdefault(citation.choice, [])
        if citation not in known:
            known.append(citation)

    @property
    def choices(self) -> list[int]:
        """Those that cite something."""
        return list(self._citations)

    def text(self, choice: int) -> str:
        return "".join(text for _, text in self._texts.get(choice, ()))

    def placed(self, choice: int) -> list[Placed]:
        """The citations of a choice with their places."""
        citations = self._citations.get(choice)
        if not citations:
            return []
        text, spans = self.text(choice), self._spans(choice)
        return [place(one, text, *spans.get(one.block, (0, len(text)))) for one in citations]

    def _spans(self, choice: int) -> dict[int, tuple[int, int]]:
        """Where the text of each block begins and ends."""
        found: dict[int, tuple[int, int]] = {}
        at = 0
        for block, text in self._texts.get(choice, ()):
            found[block] = (found.get(block, (at, 0))[0], at + len(text))
            at += len(text)
        return found


def place(citation: Citation, text: str, start: int, end: int) -> Placed:
    """The place of a citation in `text`, of which its block is the part from `start` to `end`."""
    if citation.words:
        at = text.find(citation.words, start, end)
        if at >= 0:
            return Placed(citation, at, at + len(citation.words))
    if citation.start is not None and citation.end is not None:
        first, last = start + citation.start, start + citation.end
        if start <= first <= last <= end:
            return Placed(citation, first, last)
    return Placed(citation, start, end)
