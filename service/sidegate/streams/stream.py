"""Stream: one call that is told event by event, with what it has said, and who reads it."""

from __future__ import annotations

from collections.abc import Callable

from sidegate.contract.call import Call
from sidegate.contract.host import Clock
from sidegate.errors import Cancelled, Ending
from sidegate.live import LiveCall, OnDisconnect
from sidegate.outlet import Sink
from sidegate.streams.log import StreamLog
from sidegate.streams.sink import LogSink


class Stream:
    """At its own gateway. Its client reads it as any stream; whoever comes back reads the log."""

    def __init__(
        self, id: str, call: Call, on_disconnect: OnDisconnect, limit: int, clock: Clock, kept: Callable[[int], None]
    ) -> None:
        self.id = id
        self.log = StreamLog(limit)
        self.dialect = call.dialect
        self.chat: str | None = None
        """The chat that it answers, where its client named one."""
        self.quiet_since: float | None = None
        """Monotonic seconds since when nobody here reads it."""
        self.ended_at: float | None = None
        self.sink: LogSink | None = None
        self._kept = kept
        self._clock = clock
        self._call: Call | None = call
        self._caller, self._end_user = "", ""
        self._on_disconnect = on_disconnect
        self._live: LiveCall | None = None
        self._readers = 0
        self._last: bytes | None = None

    @property
    def caller(self) -> str:
        return self._caller if self._call is None else self._call.caller.name

    @property
    def end_user(self) -> str:
        return self._end_user if self._call is None else self._call.end_user or ""

    def before(self, sink: Sink, *, comments: bool) -> LogSink:
        """The sink of the call, before the one that leads to its client."""
        self.sink = LogSink(self.log, sink, self._kept, comments=comments)
        return self.sink

    def began(self, live: LiveCall) -> None:
        """Its client reads it."""
        self._live = live
        self._readers = 1

    def arrives(self) -> None:
        self._readers += 1
        self.quiet_since = None

    def leaves(self) -> None:
        self._readers -= 1
        if not self._readers:
            self.quiet_since = self._clock.monotonic()

    def left(self) -> None:
        """The client itself has gone."""
        assert self.sink is not None
        self.sink.left()
        self.leaves()

    def give_up(self) -> None:
        """Nobody has come back: what the route says of such calls is done."""
        live = self._live
        if live is None or self.log.ended is not None:
            return
        if self._on_disconnect == "drain" and any(attempt.sent for attempt in live.call.attempts):
            live.call.notes.abandoned = True
        else:
            live.stop(Cancelled(Ending.CLIENT_GONE))

    def end(self, ending: str, event: bytes | None) -> bytes | None:
        """It is over, once: `event` says why where it failed. Gives that as it is to be told."""
        if self.log.ended is None:
            assert self.sink is not None
            assert self._call is not None
            self._last = None if event is None else self.sink.add_last(event)
            self._caller, self._end_user = self._call.caller.name, self._call.end_user or ""
            # The request and all that hangs on it is not kept with the reply.
            self._call = self._live = None
            self.ended_at = self._clock.monotonic()
            self.log.end(ending)
        return self._last
