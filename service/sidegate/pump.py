"""The pump: the one hot loop. Pieces of bytes from a provider become whole events, are metered, and go out.

Where nobody looks at chunks and both sides speak one dialect, the bytes pass as they came, several events to a write.
Where somebody does, each event becomes a `Chunk`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.host import Clock
from sidegate.contract.meaning import End
from sidegate.contract.reply import Attempt
from sidegate.errors import CutError, ReplyError
from sidegate.wire.dialect import Dialect, Sign

Relay = Callable[[list[bytes]], Awaitable[None]]

MAX_LEAD_IN_CHUNKS = 64
MAX_LEAD_IN_BYTES = 256 * 1024


class Gate:
    """The outlet of an attempt: keeps its lead-in until something meaningful commits it.

    Until then the client has seen nothing of it, so another attempt can take its place. What is kept is bounded by
    64 pieces and 256 KiB; beyond that the attempt is committed as it is. `began` is told of that moment.
    """

    def __init__(self, parent: Call, attempt: Attempt, began: Callable[[], None] | None = None) -> None:
        self._parent = parent
        self._attempt = attempt
        self._began = began
        self._chunks: list[Chunk] = []
        self._raw: list[bytes] = []
        self._size = 0

    def takes_raw(self, dialect: str, whole: bool) -> bool:
        return self._parent.takes_raw(dialect, whole)

    async def raw(self, data: bytes, meaningful: bool) -> None:
        if not self._attempt.committed:
            self._raw.append(data)
            self._size += len(data)
            if not meaningful and self._fits(len(self._raw)):
                return
            self._commit()
            data = b"".join(self._raw)
            self._raw.clear()
        await self._parent.send_raw(data, meaningful)

    async def chunks(self, chunks: list[Chunk]) -> None:
        if not self._attempt.committed:
            self._chunks += chunks
            self._size += sum(len(chunk.raw or b"") for chunk in chunks)
            wanted = any(chunk.meaningful or chunk.closing for chunk in chunks)
            if not wanted and self._fits(len(self._chunks)):
                return
            self._commit()
            chunks, self._chunks = self._chunks, []
            if self._raw:
                await self._parent.send_raw(b"".join(self._raw), meaningful=False)
                self._raw.clear()
        await self._parent.emit(chunks)

    def _commit(self) -> None:
        self._attempt.committed = True
        if self._began is not None:
            self._began()

    def _fits(self, count: int) -> bool:
        return count < MAX_LEAD_IN_CHUNKS and self._size < MAX_LEAD_IN_BYTES


class Pump:
    """Moves one reply of one attempt from `dialect` bytes to the call."""

    def __init__(self, call: Call, attempt: Attempt, dialect: Dialect, clock: Clock, *, hide_usage: bool) -> None:
        self._call = call
        self._attempt = attempt
        self._dialect = dialect
        self._clock = clock
        self._hide_usage = hide_usage
        self.meter = dialect.meter()
        self._ended = False

    async def stream(self, read: Callable[[], Awaitable[bytes]]) -> None:
        """Relay a stream of events to its end. Raises `CutError` where it stops before."""
        splitter = self._dialect.splitter()
        relay = self._relay_raw if self._call.takes_raw(self._dialect.name, whole=False) else self._relay_chunks
        while piece := await read():
            if events := splitter.feed(piece):
                await relay(events)
            if self._ended:
                return
        await self._finish(splitter.close(), relay)

    async def whole(self, body: bytes) -> None:
        """Relay a whole body."""
        self.meter.whole(body)
        self._note()
        self._attempt.first_token = self._clock.monotonic()
        if self._call.takes_raw(self._dialect.name, whole=True):
            await self._call.send_raw(body, meaningful=True)
            return
        await self._call.send(
            Chunk(
                body,
                reader=self._dialect.read_whole,
                dialect=self._dialect.name,
                whole=True,
                closing=True,
                meaningful=True,
            )
        )

    async def _finish(self, rest: bytes | None, relay: Relay) -> None:
        """The bytes are over without an end marker: a clean end only where every choice has said that it finished."""
        if rest:
            try:
                await relay([rest + b"\n\n"])
            except ReplyError as error:
                raise CutError("The provider's reply stopped inside an event.") from error
        if self._ended:
            return
        if not self.meter.finished:
            raise CutError("The provider's reply stopped before its end.")
        await self._call.send(Chunk.of(End()))

    async def _relay_raw(self, events: list[bytes]) -> None:
        batch: list[bytes] = []
        meaningful = False
        last: bytes | None = None
        try:
            for event in events:
                sign = self._sign(event)
                if sign is Sign.END:
                    last = event
                    break
                if sign is Sign.NOTHING or (sign is Sign.USAGE and self._hide_usage):
                    continue
                meaningful = meaningful or sign is Sign.CONTENT
                batch.append(event)
        finally:
            # Also where an event reports a failure: what came before it in the same piece was said.
            self._note()
            if batch:
                await self._call.send_raw(b"".join(batch), meaningful)
        if last is not None:
            self._ended = True
            await self._call.send(self._chunk(last, Sign.END))

    async def _relay_chunks(self, events: list[bytes]) -> None:
        chunks: list[Chunk] = []
        try:
            for event in events:
                sign = self._sign(event)
                if sign is not Sign.NOTHING:
                    chunks.append(self._chunk(event, sign))
                if sign is Sign.END:
                    self._ended = True
                    break
        finally:
            self._note()
            if chunks:
                await self._call.emit(chunks)

    def _chunk(self, event: bytes, sign: Sign) -> Chunk:
        chunk = Chunk(
            event,
            reader=self.meter.reader or self._dialect.read_event,
            dialect=self._dialect.name,
            closing=sign is Sign.END,
            meaningful=sign is Sign.CONTENT,
        )
        chunk.hidden = sign is Sign.USAGE and self._hide_usage
        return chunk

    def _sign(self, event: bytes) -> Sign:
        sign = self.meter.event(event)
        if sign is Sign.CONTENT and self._attempt.first_token is None:
            self._attempt.first_token = self._clock.monotonic()
        return sign

    def _note(self) -> None:
        meter, attempt = self.meter, self._attempt
        attempt.usage = meter.usage
        attempt.output_bytes = meter.output_bytes
        attempt.finish = meter.finish
        attempt.model = meter.model
        attempt.provider_id = meter.id
