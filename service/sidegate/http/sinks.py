"""Sinks: how bytes reach a client over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from sidegate.contract.host import Clock


class StreamSink:
    """A stream of events to one client: the head leaves with the first byte, or with the first sign of life.

    Whole events only are written, so a heartbeat, which aiohttp-sse writes from a task of its own, lands between two.
    """

    def __init__(
        self,
        request: web.Request,
        headers: Callable[[], Mapping[str, str]],
        clock: Clock,
        *,
        heartbeat: float,
        send_timeout: float,
    ) -> None:
        self._request = request
        self._headers = headers
        self._clock = clock
        self._heartbeat = heartbeat
        self._send_timeout = send_timeout
        self._response: EventSourceResponse | None = None
        self._preparing = asyncio.Lock()
        self._gone = False
        self.blocked_since = 0.0
        """Monotonic seconds since when a write waits for the reader; 0 while none does."""

    @property
    def begun(self) -> bool:
        return self._response is not None

    async def begin(self) -> None:
        """Send the head, and heartbeats from now on."""
        async with self._preparing:
            if self._response is not None:
                return
            response = EventSourceResponse(
                headers=self._headers(),
                sep="\n",
                allow_all_methods=True,
                send_timeout=self._send_timeout,
                ping_interval=self._heartbeat,
            )
            await response.prepare(self._request)
            self._response = response

    async def write(self, data: bytes) -> None:
        """Write whole events. A reader that has left is not an error here: its handler is cancelled, and says so."""
        if self._gone:
            return
        try:
            if self._response is None:
                await self.begin()
            assert self._response is not None
            self.blocked_since = self._clock.monotonic()
            await self._response.write(data)
        except ConnectionError:
            self._gone = True
        finally:
            self.blocked_since = 0.0

    async def end(self) -> web.StreamResponse:
        """End the body. Whether it is a clean end of the reply was decided by what was written last."""
        await self.begin()
        assert self._response is not None
        self._response.stop_streaming()
        try:
            await self._response.write_eof()
        except ConnectionError:
            self._gone = True
        return self._response

    def leave(self) -> None:
        """The reader has gone: nothing is written any more."""
        self._gone = True
        if self._response is not None:
            self._response.stop_streaming()

    def abort(self) -> None:
        """Cut a reader that stands still."""
        self.leave()
        if self._request.transport is not None:
            self._request.transport.abort()
