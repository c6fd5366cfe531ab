"""Cited: keeps the places of citations true while an edit changes the text that they point into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from sidegate.contract.meaning import Citation, Text

if TYPE_CHECKING:
    from sidegate.contract.chunk import Chunk
    from sidegate.contract.meaning import Part


class Texts:
    """What came to an edit and what it gave back, of one reply."""

    __slots__ = ("_log",)

    def __init__(self) -> None:
        self._log: list[Text | tuple[bool, Text]] = []
        """In order: a text that passed as it was, or one that only came (true), or was only given back."""

    def checked(self, chunk: Chunk, given: list[Chunk]) -> list[Chunk]:
        """What an edit gave back for a chunk. Of a citation whose words are not as they were, the address and the
        title are left: its place is wrong, and its quote may repeat what was taken out."""
        parts = chunk.parts
        if len(parts) == 1 and len(given) == 1 and given[0] is chunk and type(parts[0]) is Text:
            # Nearly every chunk of an edit that finds nothing.
            self._log.append(parts[0])
            return given
        self._log += [(True, part) for part in parts if type(part) is Text]
        for number, piece in enumerate(given):
            parts = piece.parts
            self._log += [(False, part) for part in parts if type(part) is Text]
            if any(type(part) is Citation for part in parts):
                fitted = tuple(self._fitted(part) for part in parts)
                if fitted != parts:
                    given = [*given[:number], piece.with_parts(fitted), *given[number + 1 :]]
        return given

    def _fitted(self, part: Part) -> Part:
        if type(part) is not Citation:
            return part
        came, gave = self._text(part, came=True), self._text(part, came=False)
        stands = came.startswith(gave) if part.end is None else gave[: part.end] == came[: part.end]
        if stands and (part.words is None or part.words in gave):
            return part
        return replace(part, quote=None, start=None, end=None, words=None, data=None)

    def _text(self, cited: Citation, *, came: bool) -> str:
        """The text of its block: as it came, or as it was given back."""
        texts = (entry if isinstance(entry, Text) else entry[1] for entry in self._log if _is_of(entry, came))
        return "".join(text.text for text in texts if (text.choice, text.block) == (cited.choice, cited.block))


def _is_of(entry: Text | tuple[bool, Text], came: bool) -> bool:
    return isinstance(entry, Text) or entry[0] is came
