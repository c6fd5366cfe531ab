"""Outlets: the client's edge of a call. What climbed out of the pipeline becomes bytes of the client's dialect here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec.structs import replace

from sidegate.contract.call import Notes, Outlet
from sidegate.contract.caller import Naming
from sidegate.contract.chunk import Chunk
from sidegate.contract.host import Clock
from sidegate.contract.meaning import Comment, End, Part
from sidegate.wire import sse
from sidegate.wire.dialect import Assembler, Dialect, Encoder, Envelope


class Sink(Protocol):
    """Carries bytes to whoever reads: an HTTP response, a job's record, nobody."""

    @property
    def blocked_since(self) -> float:
        """Monotonic seconds since when a write waits for the reader; 0 while none does."""
        ...

    @property
    def quiet_since(self) -> float:
        """Monotonic seconds of the last sign of life; 0 where none is waited for."""
        ...

    async def write(self, data: bytes) -> None:
        """Returns when the reader has room."""
        ...

    def write_now(self, data: bytes) -> bool:
        """Write where the reader has room; else false, and nothing is written."""
        ...

    async def beat(self) -> None:
        """Show a reader of a silent stream that it is alive."""
        ...

    def abort(self) -> None:
        """Cut a reader that stands still."""
        ...


class NullSink:
    """For a reader that has left while the call goes on, and for one that waits for a whole body."""

    blocked_since = 0.0
    quiet_since = 0.0

    async def write(self, data: bytes) -> None:
        """Nobody reads."""

    def write_now(self, data: bytes) -> bool:
        """Nobody reads."""
        return True

    async def beat(self) -> None:
        """Nobody waits."""

    def abort(self) -> None:
        """Nobody to cut."""


class ClientOutlet(Outlet, Protocol):
    """An outlet at the client's edge. `notes` are those of the call, shared."""

    notes: Notes
    sink: Sink

    def detach(self) -> None:
        """Nobody reads any more: what still comes is counted and dropped."""
        ...


def named(envelope: Envelope, naming: Naming | None) -> Envelope:
    """The envelope of a reply, with the ids and the time of an earlier one where that is told again."""
    return envelope if naming is None else replace(envelope, id=naming.id, created=naming.created)


class StreamOutlet:
    """Chunks into a stream of events: bytes as they came where nobody edits, written anew where somebody does."""

    __slots__ = ("_clock", "_dialect", "_encoder", "_envelope", "_relays", "notes", "sink")

    def __init__(self, dialect: Dialect, envelope: Envelope, sink: Sink, clock: Clock) -> None:
        self._dialect = dialect
        self._envelope = envelope
        self._encoder: Encoder | None = None
        self.sink: Sink = sink
        self._clock = clock
        self._relays = False
        self.notes = Notes()

    def takes_raw(self, dialect: str, whole: bool) -> bool:
        return not whole and dialect == self._dialect.name and not self.notes.edited and self._encoder is None

    async def raw(self, data: bytes, meaningful: bool) -> None:
        self._relays = True
        if meaningful:
            self._begin()
        await self.sink.write(data)

    def raw_now(self, data: bytes) -> bool:
        """As `raw`, once something meaningful was sent, where the reader has room; else false, and nothing is done."""
        return self._relays and self.notes.first_token is not None and self.sink.write_now(data)

    def shortcut(self) -> Callable[[bytes], bool]:
        """What `raw_now` comes to from here on. A sink that has lost its reader takes what comes and drops it."""
        return self.sink.write_now if self._relays and self.notes.first_token is not None else self.raw_now

    async def chunks(self, chunks: list[Chunk]) -> None:
        data = b"".join([self._bytes(chunk) for chunk in chunks if not chunk.hidden])
        if any(chunk.meaningful for chunk in chunks):
            self._begin()
        if data:
            await self.sink.write(data)

    def detach(self) -> None:
        self.sink = NullSink()

    def failure(self, event: bytes) -> bytes:
        """An error event as this stream bears it: with the next number, where its events are written here and have
        numbers. Those that are relayed are not counted."""
        number = getattr(self._encoder, "number", None)
        return event if number is None else event.replace(b'"sequence_number":0', b'"sequence_number":%d' % number, 1)

    def _begin(self) -> None:
        if self.notes.first_token is None:
            self.notes.first_token = self._clock.monotonic()

    def _bytes(self, chunk: Chunk) -> bytes:
        if chunk.raw is not None and self.takes_raw(chunk.dialect, chunk.whole):
            self._relays = True
            return chunk.raw
        if self._relays:
            # The encoder has seen nothing of a relayed stream, so it must not be asked to go on with it.
            return b"".join([self._aside(part) for part in chunk.parts])
        if self._encoder is None:
            self._encoder = self._dialect.encoder(named(self._envelope, self.notes.naming))
        return self._encoder.encode(chunk.parts)

    def _aside(self, part: Part) -> bytes:
        if type(part) is Comment:
            return sse.comment(part.text) if self._dialect.comments else b""
        if type(part) is End:
            return self._dialect.terminator
        raise TypeError(f"a relayed stream bears no {type(part).__name__}: register an edit before the reply begins")


class BufferOutlet:
    """Chunks into one body, kept until the call has ended. `make` is told of a naming that is not the call's own."""

    def __init__(self, dialect: str, make: Callable[[Naming | None], Assembler] | None, clock: Clock) -> None:
        self._dialect = dialect
        self._make = make
        self._assembler: Assembler | None = None
        self._clock = clock
        self._raw: bytes | None = None
        self._base: bytes | None = None
        self._parts = False
        self.sink: Sink = NullSink()
        self.notes = Notes()

    def takes_raw(self, dialect: str, whole: bool) -> bool:
        return whole and dialect == self._dialect

    async def raw(self, data: bytes, meaningful: bool) -> None:
        self._raw = data
        if meaningful:
            self._begin()

    async def chunks(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            if chunk.meaningful:
                self._begin()
            if chunk.raw is not None and self.takes_raw(chunk.dialect, chunk.whole) and not self._parts:
                self._raw = chunk.raw
                continue
            self._add(chunk)

    def detach(self) -> None:
        """The body is simply never asked for."""

    def _add(self, chunk: Chunk) -> None:
        if self._make is None:
            raise TypeError("this reply is bytes, and cannot be made of parts")
        self._assembler = self._assembler or self._make(self.notes.naming)
        self._parts = True
        self._assembler.add(chunk.parts)
        if chunk.base is not None and chunk.base[0] == self._dialect:
            self._base = chunk.base[1]

    def _begin(self) -> None:
        if self.notes.first_token is None:
            self.notes.first_token = self._clock.monotonic()

    def body(self) -> bytes | None:
        """The reply, or `None` where nothing was sent."""
        if self._assembler is None or not self._parts:
            return self._raw
        return self._assembler.body(self._base)
