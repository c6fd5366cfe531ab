"""The pump: the one hot loop. Pieces of bytes from a provider become whole events, are metered, and go out.

Where nobody looks at chunks and both sides speak one dialect, the bytes pass as they came, several events to a write.
Where somebody does, each event becomes a `Chunk`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.host import Clock
from sidegate.contract.meaning import End
from sidegate.contract.reply import Attempt
from sidegate.errors import CutError, ReplyError, SidegateError
from sidegate.gate import Shortcut, never
from sidegate.wire.dialect import Dialect, Sign
from sidegate.wire.mould import Moulded
from sidegate.wire.sse import Splitter
from sidegate.wire.surrogates import without_halves

Take = Callable[[bytes], Coroutine[Any, Any, bool] | None]
"""Takes a piece. `None` where that was all and more is wanted; else what has to be awaited, which says so."""


class Source(Protocol):
    """Where the pieces of a reply come from."""

    async def piece(self) -> bytes:
        """The next one; empty at the end."""
        ...

    async def drive(self, take: Take) -> None:
        """Let `take` have pieces by a shorter way, if there is one, until it wants no more or no more come."""
        ...


MAX_LAST_BYTES = 4096
"""What comes with the last event leaves with it, in one write; more is a piece of its own to those that keep pieces."""


class Pump:
    """Moves one reply of one attempt from `dialect` bytes to the call."""

    __slots__ = (
        "_as_it_is",
        "_attempt",
        "_call",
        "_clock",
        "_dialect",
        "_ended",
        "_hide_usage",
        "_raw_now",
        "_rowed",
        "_shortcut",
        "_splitter",
        "_together",
        "meter",
    )

    def __init__(self, call: Call, attempt: Attempt, dialect: Dialect, clock: Clock, *, hide_usage: bool) -> None:
        self._call = call
        self._attempt = attempt
        self._dialect = dialect
        self._clock = clock
        self._hide_usage = hide_usage
        self.meter = dialect.meter()
        self._ended = False
        self._splitter = dialect.splitter()
        self._as_it_is = call.takes_raw(dialect.name, whole=False)
        # Dialects that spell much round each token have one.
        self._rowed = self.meter if isinstance(self.meter, Moulded) else None
        self._raw_now: Callable[[bytes], bool] = getattr(call._outlet, "raw_now", never)
        self._shortcut: Shortcut | None = getattr(call._outlet, "shortcut", None)
        self._together: Callable[[], bool] = getattr(call._outlet, "together", never)

    async def stream(self, source: Source) -> None:
        """Relay a stream of events to its end. Raises `CutError` where it stops before."""
        in_rows = self._as_it_is and self._rowed is not None and type(self._splitter) is Splitter
        take: Take = self._rows if in_rows else self._cut
        while piece := await source.piece():
            rest = take(piece)
            if rest is not None and not await rest:
                return
            if self._attempt.committed:
                if self._shortcut is not None:
                    self._raw_now = self._shortcut()
                await source.drive(take)
                if self._ended:
                    return
        await self._finish(self._splitter.close())

    def _cut(self, piece: bytes) -> Coroutine[Any, Any, bool] | None:
        events = self._splitter.feed(piece)
        if not events:
            return None
        return self._raw(events, []) if self._as_it_is else self._built(events)

    def _rows(self, piece: bytes) -> Coroutine[Any, Any, bool] | None:
        """Events that only go on with the text are counted, and go out, uncut; wherever a piece of them ends."""
        splitter: Splitter = self._splitter  # type: ignore[assignment]  # no other comes here
        meter: Moulded = self._rowed  # type: ignore[assignment]  # nor any without
        if splitter.straight(piece) and meter.row(piece):
            # They are like those before but for their text: all else was noted then.
            self._attempt.output_bytes = meter.output_bytes
            return None if self._raw_now(piece) else self._send_raw(piece, True, None, None)
        batch: list[bytes] = []
        return self._raw(splitter.around(piece, meter.front, batch), batch)

    async def _finish(self, rest: bytes | None) -> None:
        """The bytes are over without an end marker: a clean end only where every choice has said that it finished."""
        if rest:
            last = [rest + b"\n\n"]
            try:
                left = self._raw(last, []) if self._as_it_is else self._built(last)
                if left is not None:
                    await left
            except ReplyError as error:
                raise CutError("The provider's reply stopped inside an event.") from error
        if self._ended:
            return
        if not self.meter.finished:
            raise CutError("The provider's reply stopped before its end.")
        await self._call.send(Chunk.of(End()))

    def _raw(self, events: Iterable[bytes], batch: list[bytes]) -> Coroutine[Any, Any, bool] | None:
        """Events as they came, all in one write: in `batch`, where what was counted before stands between them. Nobody
        is waited for where the client reads."""
        meaningful = False
        last: bytes | None = None
        failure: SidegateError | None = None
        try:
            for event in events:
                try:
                    sign = self.meter.event(event)
                except ReplyError as error:
                    # It goes out as it is: who joins the halves has the character.
                    _, sign = self._mended(event, error)
                if sign is Sign.CONTENT:
                    meaningful = True
                elif sign is Sign.END:
                    last = event
                    break
                elif sign is Sign.NOTHING or (sign is Sign.USAGE and self._hide_usage):
                    continue
                batch.append(event)
        except SidegateError as error:
            # What came before it in the same piece was said.
            failure = error
        self._note(meaningful)
        data = batch[0] if len(batch) == 1 else b"".join(batch)
        if last is None and failure is None and (not data or self._raw_now(data)):
            return None
        return self._send_raw(data, meaningful, last, failure)

    async def _send_raw(self, data: bytes, meaningful: bool, last: bytes | None, failure: SidegateError | None) -> bool:
        if last is not None and 0 < len(data) < MAX_LAST_BYTES and self._together():
            self._ended = True
            said = Chunk(data, parts=(), dialect=self._dialect.name, meaningful=meaningful)
            await self._call.emit([said, self._chunk(last, Sign.END)])
            return False
        if data:
            await self._call.send_raw(data, meaningful)
        if failure is not None:
            raise failure
        if last is None:
            return True
        self._ended = True
        await self._call.send(self._chunk(last, Sign.END))
        return False

    async def _built(self, events: list[bytes]) -> bool:
        """Each event as a chunk, through the stages."""
        chunks: list[Chunk] = []
        try:
            for event in events:
                try:
                    sign = self.meter.event(event)
                except ReplyError as error:
                    event, sign = self._mended(event, error)
                if sign is not Sign.NOTHING:
                    chunks.append(self._chunk(event, sign))
                if sign is Sign.END:
                    self._ended = True
                    break
        finally:
            self._note(any(chunk.meaningful for chunk in chunks))
            if chunks:
                await self._call.emit(chunks)
        return not self._ended

    def _mended(self, event: bytes, error: ReplyError) -> tuple[bytes, Sign]:
        """An event that could not be read, without halves of characters; and what it is. Raises `error` without any."""
        mended = without_halves(event)
        if mended is event:
            raise error
        return mended, self.meter.event(mended)

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

    def _note(self, meaningful: bool) -> None:
        meter, attempt = self.meter, self._attempt
        if meaningful and attempt.first_token is None:
            attempt.first_token = self._clock.monotonic()
        attempt.usage = meter.usage
        attempt.output_bytes = meter.output_bytes
        attempt.finish = meter.finish
        attempt.model = meter.model
        attempt.provider_id = meter.id
