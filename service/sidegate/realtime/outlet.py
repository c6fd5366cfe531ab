"""Outlets of a socket: events pass beside them, so all they do is note when the first came."""

from __future__ import annotations

from sidegate.contract.call import Notes
from sidegate.contract.chunk import Chunk
from sidegate.contract.host import Clock
from sidegate.outlet import NullSink, Sink
from sidegate.wire.openai_realtime.events import NAME


class SocketOutlet:
    """Of a session, or of a response in it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.sink: Sink = NullSink()
        self.notes = Notes()

    def takes_raw(self, dialect: str, whole: bool) -> bool:
        return dialect == NAME

    async def raw(self, data: bytes, meaningful: bool) -> None:
        self._begin(meaningful)

    async def chunks(self, chunks: list[Chunk]) -> None:
        self._begin(any(chunk.meaningful for chunk in chunks))

    def detach(self) -> None:
        """A session ends by itself when its client has left."""

    def _begin(self, meaningful: bool) -> None:
        if meaningful and self.notes.first_token is None:
            self.notes.first_token = self._clock.monotonic()
