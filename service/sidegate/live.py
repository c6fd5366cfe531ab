"""Live: the calls in flight. It owns the task each pipeline runs in, stops it once at most, and settles what ended.

The HTTP handler only waits and says when the client has left. So a second cancellation by the server (aiohttp sends one
when it shuts down) never reaches a pipeline, and no record hangs on an `await` in somebody's `finally`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import copy_context
from functools import partial
from typing import Literal

from sidegate.contract.call import Call
from sidegate.contract.host import Clock
from sidegate.contract.plugin import Handler
from sidegate.contract.reply import Reply
from sidegate.errors import FAULTS, Cancelled, Ending, GatewayStopping, Refusal, SidegateError
from sidegate.outlet import ClientOutlet

OnDisconnect = Literal["cancel", "drain", "continue"]
Settle = Callable[[Call, Reply, float], None]
"""Records a call that has ended: priced, to the ledger and the metrics. Synchronous, and never fails the call."""

CHAT_SOCKET = "chat_socket"
"""The operation of a call in which others are made, turn by turn."""
STOP_SECONDS = 5.0
"""How long stopped calls get to end: their plugins clean up, their readers are told."""
FAREWELL_SECONDS = 1.0
"""How long a chat socket gets to say so of its turns, and to close by itself."""
PORTION = 1000
"""Calls that a check passes over before others have their turn: a fifth of a millisecond."""
LOOK = 20
"""To look at one, and to show its reader a sign of life, takes as long as to pass over so many."""


class LiveCall:
    """A call, its task, and in the end how it went."""

    __slots__ = ("_done", "_over", "_readers", "call", "due", "handler", "on_disconnect", "outlet", "reply", "task")

    def __init__(
        self,
        call: Call,
        handler: Handler,
        outlet: ClientOutlet,
        on_disconnect: OnDisconnect,
    ) -> None:
        self.call = call
        self.handler = handler
        """What it runs: whose pipeline that is can be read from it."""
        self.outlet = outlet
        self.on_disconnect = on_disconnect
        self.reply: Reply | None = None
        self.task: asyncio.Task[None] | None = None
        self.due = 0.0
        """Monotonic seconds before which nothing of it can be overdue."""
        self._over = False
        self._done: asyncio.Future[None] | None = None
        self._readers: tuple[asyncio.Future[None], ...] = ()

    def ended(self) -> asyncio.Future[None]:
        """Resolved when the onion has ended and the settlement is on its way. Its owner's own: one that is cancelled
        is nobody else's."""
        assert self.task is not None
        reader = self.task.get_loop().create_future()
        if self._over:
            reader.set_result(None)
        else:
            self._readers += (reader,)
        return reader

    @property
    def done(self) -> asyncio.Future[None]:
        """Resolved as `ended` is, and shared by all who ask for it: wait on it shielded."""
        if self._done is None:
            self._done = self.ended()
        return self._done

    def tell(self) -> None:
        """It is over: whoever waits goes on."""
        self._over = True
        for waiting in self._readers:
            if not waiting.done():
                waiting.set_result(None)

    def stop(self, why: SidegateError) -> None:
        """Cancel the call's task, once; later reasons are not heard."""
        if self.call.notes.stop is None and self.task is not None and not self.task.done():
            self.call.notes.stop = why
            self.task.cancel()


class Live:
    """The register of calls in flight, bounded by `limit`."""

    def __init__(self, clock: Clock, settle: Settle, *, limit: int, plugin_timeout: float) -> None:
        self._clock = clock
        self._settle = settle
        self._limit = limit
        self._plugin_timeout = plugin_timeout
        self._calls: dict[str, LiveCall] = {}
        self._judged_by = 0.0, 0.0, 0.0
        """The bounds that each `due` was worked out by."""
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        self._hurry = asyncio.Event()
        self._beats: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._calls)

    def bound(self, *, limit: int, plugin_timeout: float) -> None:
        """Other bounds, from now on."""
        self._limit = limit
        self._plugin_timeout = plugin_timeout

    def all(self) -> list[LiveCall]:
        """The calls in flight, oldest first."""
        return list(self._calls.values())

    def get(self, id: str) -> LiveCall | None:
        """The call in flight of this id."""
        return self._calls.get(id)

    def start(self, call: Call, handler: Handler, outlet: ClientOutlet, on_disconnect: OnDisconnect) -> LiveCall:
        """Run the call in a task of its own. Refuses with 503 while draining or full."""
        if self.draining:
            raise GatewayStopping()
        if len(self._calls) >= self._limit:
            raise Refusal(503, "overloaded", "The gateway has too many calls in flight.", retry_after=1)
        loop = asyncio.get_running_loop()
        live = LiveCall(call, handler, outlet, on_disconnect)
        self._calls[call.id] = live
        self._idle.clear()
        context = copy_context()
        # uvloop's `create_task` names it twice.
        live.task = asyncio.Task(self._run(live, handler), loop=loop, name=f"call {call.id}", context=context)
        call.notes.task, call.notes.context = live.task, context
        # Not a `finally` in the task: one that is cancelled before its first step never enters its body.
        live.task.add_done_callback(partial(self._end, live))
        return live

    async def _run(self, live: LiveCall, handler: Handler) -> None:
        call = live.call
        try:
            reply = await handler(call)
            # A plugin that swallowed the cancellation does not make a stopped call complete.
            live.reply = call.reply_for(call.notes.stop) if call.notes.stop is not None else reply
        except BaseException as error:
            live.reply = call.reply_for(error)
            if isinstance(error, FAULTS) and not isinstance(error, SidegateError):
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"call {call.id} failed in the gateway", "exception": error}
                )
            _shed(error)
            if not isinstance(error, FAULTS):
                raise

    def _end(self, live: LiveCall, _: object = None) -> None:
        del self._calls[live.call.id]
        if not self._calls:
            self._idle.set()
        reply = live.reply or live.call.reply_for(asyncio.CancelledError())
        live.reply = reply
        try:
            self._settle(live.call, reply, self._clock.monotonic() - live.call.started)
        finally:
            live.tell()

    def client_left(self, live: LiveCall) -> None:
        """The reader has gone: stop the call, read on for the usage of what was sent, or finish the work."""
        sent = any(attempt.sent for attempt in live.call.attempts)
        if live.on_disconnect == "cancel" or (live.on_disconnect == "drain" and not sent):
            live.stop(Cancelled(Ending.CLIENT_GONE))
            return
        live.call.notes.abandoned = live.on_disconnect == "drain"
        live.outlet.detach()

    def check(self, send_timeout: float, heartbeat: float) -> None:
        """Interrupt plugins that take too long, cut readers that stand still, and show those who wait a sign of life.

        A sign of life commits the status of a stream, not an attempt.
        """
        for _ in self.checks(send_timeout, heartbeat):
            pass

    def checks(self, send_timeout: float, heartbeat: float) -> Iterator[None]:
        """`check` in portions: among thousands of streams, others have their turn at each. For the ticker.

        A call is looked at when something of it can be overdue, which is seldom: to look at 5,000 takes 8 ms.
        """
        bounds = send_timeout, heartbeat, self._plugin_timeout
        anew = bounds != self._judged_by
        self._judged_by = bounds
        now = self._clock.monotonic()
        passed = 0
        for live in self.all():
            passed += 1
            if (live.due <= now or anew) and live.reply is None:
                live.due = self._look(live, now, send_timeout, heartbeat)
                passed += LOOK
            if passed >= PORTION:
                passed = 0
                yield

    def _look(self, live: LiveCall, now: float, send_timeout: float, heartbeat: float) -> float:
        """See to what is overdue. Gives when something can be the next time."""
        due = min(self._check_plugin(live, now), now + send_timeout)
        sink = live.outlet.sink
        quiet = sink.quiet_since or now
        if sink.blocked_since:
            if now - sink.blocked_since > send_timeout:
                live.stop(Cancelled(Ending.CLIENT_GONE, code="write_timeout"))
                sink.abort()
            return min(due, sink.blocked_since + send_timeout, quiet + heartbeat)
        if now - quiet >= heartbeat:
            beat = asyncio.get_running_loop().create_task(sink.beat())
            self._beats.add(beat)
            beat.add_done_callback(self._beats.discard)
            quiet = now
        return min(due, quiet + heartbeat)

    def _check_plugin(self, live: LiveCall, now: float) -> float:
        """Gives when one can have taken too long: what begins only now cannot before its time is over."""
        frame = live.call.notes.frame
        if frame is None or not frame.since:
            return now + self._plugin_timeout
        if (due := frame.since + self._plugin_timeout) > now:
            return due
        if not frame.overdue and live.task is not None and live.call.notes.stop is None:
            frame.overdue = True
            live.task.cancel()
        return now

    async def drain(self, seconds: float) -> int:
        """Refuse new calls, wait for those in flight, stop what outlasts the deadline. Gives how many it stopped."""
        self.draining = True
        waits = [asyncio.ensure_future(event.wait()) for event in (self._idle, self._hurry)]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        late = list(self._calls.values())
        await self._stop_all([live for live in late if live.call.operation != CHAT_SOCKET])
        sockets = [live for live in late if live.reply is None]
        if sockets:
            # They tell what became of their turns, and close.
            await asyncio.wait([live.ended() for live in sockets], timeout=FAREWELL_SECONDS)
        await self._stop_all([live for live in sockets if live.reply is None])
        return len(late)

    async def _stop_all(self, calls: list[LiveCall]) -> None:
        for live in calls:
            live.stop(GatewayStopping())
        if calls:
            await asyncio.wait([live.ended() for live in calls], timeout=STOP_SECONDS)

    def hurry(self) -> None:
        """End a drain now: what still runs is stopped, and told."""
        self._hurry.set()


def _shed(error: BaseException | None) -> None:
    """Let go of the frames that an error came through: they hold the call, and the call holds the error. All of it
    would wait for the collector, which comes seldom to what has lived as long as a stream."""
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        _shed(error.__cause__)
        error = error.__context__
