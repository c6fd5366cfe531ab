"""Cited: keeps the places of citations true while an edit changes the text that they point into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from sidegate.contract.meaning import Citation, Text

if TYPE_CHECKING:
    from sidegate.contract.chunk import Chunk
    from sidegate.contract.meaning import Part


class Texts:
    """What came to an edit and what it gave back, block by block, of one reply."""

    __slots__ = ("_came", "_gave")

    def __init__(self) -> None:
        self._came: dict[tuple[int, int], list[str]] = {}
        self._gave: dict[tuple[int, int], list[str]] = {}

    def checked(self, chunk: Chunk, given: list[Chunk]) -> list[Chunk]:
        """What an edit gave back for a chunk. Of a citation whose words are not as they were, the address and the
        title are left: its place is wrong, and its quote may repeat what was taken out."""
        _note(self._came, chunk.parts)
        for number, piece in enumerate(given):
            parts = piece.parts
            _note(self._gave, parts)
            if any(type(part) is Citation for part in parts):
                fitted = tuple(self._fitted(part) for part in parts)
                if fitted != parts:
                    given = [*given[:number], piece.with_parts(fitted), *given[number + 1 :]]
        return given

    def _fitted(self, part: Part) -> Part:
        if type(part) is not Citation:
            return part
        key = part.choice, part.block
        came, gave = "".join(self._came.get(key, ())), "".join(self._gave.get(key, ()))
        stands = came.startswith(gave) if part.end is None else gave[: part.end] == came[: part.end]
        if stands and (part.words is None or part.words in gave):
            return part
        return replace(part, quote=None, start=None, end=None, words=None, data=None)


def _note(texts: dict[tuple[int, int], list[str]], parts: tuple[Part, ...]) -> None:
    for part in parts:
        if type(part) is Text:
            texts.setdefault((part.choice, part.block), []).append(part.text)
