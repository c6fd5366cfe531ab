"""The live stream of the admin listener: what goes on, once a second, to whoever listens.

One ticker for all listeners, which runs while there are any. A listener that does not read misses events, and nothing
grows for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

import msgspec
from aiohttp import web
from msgspec import Struct

from sidegate.errors import Refusal
from sidegate.http.admin.answers import HEADERS, no_parameters
from sidegate.in_flight import InFlight, in_flight
from sidegate.live import Live
from sidegate.service import Service
from sidegate.telemetry.pace import Pace, Percentiles, Tokens, snapshot
from sidegate.wire import sse

SECONDS: Final = 1.0
MOST_LISTENERS: Final = 16
MOST_CALLS: Final = 50
MISSED: Final = 2
"""Events that wait for a listener; of more, the oldest is dropped."""
_BYTES_PER_TOKEN: Final = 4

_logger = logging.getLogger("sidegate.http")


class Now(Struct, frozen=True, kw_only=True):
    """What goes on in this process."""

    at: datetime
    in_flight: int
    calls: tuple[InFlight, ...]
    """The oldest of those in flight."""
    calls_total: int
    """Calls that have ended since the start."""
    by_ending: dict[str, int]
    calls_per_second: float
    tokens_per_second: Tokens
    first_token_seconds: Percentiles | None
    per_token_seconds: Percentiles | None
    ledger_waiting: int
    """Rows that are not durable yet."""
    lag_seconds: float
    """How late the event loop ran this event."""
    draining: bool


class Ticker:
    """Tells all listeners. `current` gives the config in force."""

    def __init__(self, current: Callable[[], Service]) -> None:
        self._current = current
        self._listeners: set[asyncio.Queue[bytes | None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._pace: Pace | None = None
        self._closed = False

    def join(self) -> asyncio.Queue[bytes | None]:
        """Where events come from now on, the first at once; `None` is the end. Refuses beyond the bound."""
        if self._closed or len(self._listeners) >= MOST_LISTENERS:
            raise Refusal(503, "live_busy", f"{MOST_LISTENERS} listen already.", retry_after=5)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(MISSED)
        self._listeners.add(queue)
        if self._task is None:
            metrics = self._current().metrics
            self._pace = Pace(metrics.first.bounds, metrics.per_token.bounds)
            self._look()
            self._task = asyncio.get_running_loop().create_task(self._run(), name="admin live")
        queue.put_nowait(self._frame(0.0))
        return queue

    def leave(self, queue: asyncio.Queue[bytes | None]) -> None:
        """The last one to leave stops the ticker."""
        self._listeners.discard(queue)
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    async def close(self) -> None:
        """Nobody is told anything any more."""
        self._closed = True
        for queue in self._listeners:
            _put(queue, None)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        try:
            while True:
                await self._tick()
        except Exception:
            _logger.exception("the live stream of the admin listener failed")
            for queue in self._listeners:
                _put(queue, None)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + SECONDS
        await asyncio.sleep(SECONDS)
        late = max(0.0, loop.time() - due)
        self._look()
        event = self._frame(late)
        live = self._current().live
        for queue in self._listeners:
            _put(queue, event)
            if live.draining and not len(live):
                _put(queue, None)  # there is nothing to come

    def _look(self) -> None:
        service, pace = self._current(), self._pace
        assert pace is not None
        pace.take(snapshot(service.metrics, service.clock.monotonic(), _said_so_far(service.live)))

    def _frame(self, late: float) -> bytes:
        service, pace = self._current(), self._pace
        assert pace is not None
        live, seen = service.live, pace.now
        now = Now(
            at=service.clock.now(),
            in_flight=len(live),
            calls=tuple([in_flight(running.call, service.clock) for running in live.all()[:MOST_CALLS]]),
            calls_total=seen.calls,
            by_ending=seen.by_ending,
            calls_per_second=pace.calls_per_second(),
            tokens_per_second=pace.tokens_per_second(),
            first_token_seconds=pace.first_token(),
            per_token_seconds=pace.per_token(),
            ledger_waiting=service.ledger.waiting,
            lag_seconds=late,
            draining=live.draining,
        )
        return sse.frame(msgspec.json.encode(now), "live")


def _put(queue: asyncio.Queue[bytes | None], event: bytes | None) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(event)


def _said_so_far(live: Live) -> float:
    """Tokens that calls in flight have said: as told, else from bytes. Cheap, for there may be thousands."""
    total = 0.0
    for running in live.all():
        for attempt in running.call.attempts:
            usage = attempt.usage
            told = None if usage is None else usage.output_tokens
            total += attempt.output_bytes / _BYTES_PER_TOKEN if told is None else told
    return total


def add_live(app: web.Application, current: Callable[[], Service]) -> None:
    """`GET /admin/live`: server-sent events."""
    ticker = Ticker(current)

    async def live(request: web.Request) -> web.StreamResponse:
        no_parameters(request)
        queue = ticker.join()
        try:
            response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream; charset=utf-8"})
            if request.version >= (1, 1):
                response.enable_chunked_encoding()
            await response.prepare(request)
            with suppress(ConnectionError):
                while (event := await queue.get()) is not None:
                    await response.write(event)
                await response.write_eof()
            return response
        finally:
            ticker.leave(queue)

    async def close(_: web.Application) -> None:
        await ticker.close()

    app.router.add_get("/admin/live", live, allow_head=False)
    app.on_shutdown.append(close)
