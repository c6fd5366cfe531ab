"""Reading: a stream from where its reader was, to its end. Where the frames come from is the source's business."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from sidegate.errors import GatewayStopping, Refusal
from sidegate.jobs import frames
from sidegate.jobs.frames import START, Position
from sidegate.jobs.reading import HELLO
from sidegate.jobs.shown import encoded
from sidegate.streams.log import GENERATION


def trimmed() -> Refusal:
    """Of a reader that has seen less than what is left out by now."""
    return Refusal(410, "stream_trimmed", "What follows is not kept any more: the stream has become too long.")


class Source(Protocol):
    """Frames of one stream: at the gateway that runs it, or from the store."""

    @property
    def dialect(self) -> str: ...
    @property
    def last(self) -> int: ...
    @property
    def trimmed(self) -> int: ...
    @property
    def ended(self) -> str | None: ...
    def pieces(self, number: int) -> AsyncIterator[tuple[bytes, int]]:
        """Frames behind a number, as they come, each time with the number of the last; until it has ended, or its
        reader should go elsewhere."""
        ...


class Reading:
    """One reader of one stream."""

    def __init__(self, id: str, source: Source, seen: Position | None, *, plain: bool) -> None:
        """`seen` is `None` for one that has seen something nobody knows: it starts anew. `plain`: nothing is said but
        the reply itself."""
        self.source = source
        self._id = id
        self._plain = plain
        known = seen is not None and (seen == START or seen[0] == GENERATION)
        beyond = known and source.ended is not None and seen is not None and seen[1] > source.last + 1
        self._anew = not known or beyond
        self._at = 0 if seen is None or self._anew else seen[1]
        if self._at < source.trimmed:
            raise trimmed()

    @property
    def over(self) -> bool:
        """There is nothing to come: the reader has seen the end."""
        return self.source.ended is not None and self._at == self.source.last + 1

    async def pieces(self) -> AsyncIterator[bytes]:
        """Whole events, several at a time; after them `end`."""
        if not self._plain:
            yield HELLO
        if self._anew:
            yield frames.event("reset", encoded({"generation": GENERATION}), (GENERATION, 0))
        async for data, _ in self.source.pieces(self._at):
            yield data
        if self.source.ended is None:
            if self._plain:
                raise GatewayStopping()
            return
        if not self._plain:
            end = encoded({"id": self._id, "ending": self.source.ended})
            yield frames.event("end", end, (GENERATION, self.source.last + 1))
