"""Exchange: one HTTP request while its call is in flight. Hands the call to `live`, waits, and draws how it ended."""

from __future__ import annotations

import asyncio
from functools import partial

from aiohttp import web

from sidegate.contract.call import Call
from sidegate.contract.plugin import Handler
from sidegate.errors import SidegateError
from sidegate.http.replies import Voice, buffered_reply, call_headers, error_reply
from sidegate.http.sinks import StreamSink
from sidegate.http.timing import server_timing
from sidegate.outlet import BufferOutlet, StreamOutlet
from sidegate.service import Service
from sidegate.settings import Route


class Exchange:
    """What all endpoints of one route and dialect share."""

    def __init__(self, service: Service, route: Route, handler: Handler, voice: Voice) -> None:
        self._live = service.live
        self._on_disconnect = route.on_disconnect
        self._handler = handler
        self._voice = voice
        self._clock = service.clock
        self._timed = service.settings.server.server_timing

    async def run(self, call: Call, outlet: StreamOutlet | BufferOutlet, sink: StreamSink | None) -> web.StreamResponse:
        """Answer the request. Where its client leaves, `live` is told, and the cancellation goes on its way."""
        outlet.notes = call.notes
        try:
            live = self._live.start(call, self._handler, outlet, self._on_disconnect)
        except SidegateError as error:
            return error_reply(self._voice, error, call)
        if sink is not None:
            sink.headers = partial(self._headers, call)
        try:
            await live.ended()
        except asyncio.CancelledError:
            if sink is not None:
                sink.leave()
            self._live.client_left(live)
            raise
        assert live.reply is not None
        return await self._finish(live.reply.error, call, outlet, sink)

    async def _finish(
        self, error: SidegateError | None, call: Call, outlet: StreamOutlet | BufferOutlet, sink: StreamSink | None
    ) -> web.StreamResponse:
        if sink is not None and sink.begun:
            if error is not None:
                event = self._voice.write_error_event(error, call.id)
                return await sink.fail(outlet.failure(event) if isinstance(outlet, StreamOutlet) else event)
            return await sink.end()
        if error is not None:
            if sink is not None:
                sink.leave()
            if self._timed:
                self._time(call)
            return error_reply(self._voice, error, call)
        if sink is not None:
            return await sink.end()
        assert isinstance(outlet, BufferOutlet)
        if self._timed:
            self._time(call)
        return buffered_reply(self._voice, outlet.body(), call)

    def _headers(self, call: Call) -> dict[str, str]:
        """Of a stream that begins."""
        if self._timed:
            self._time(call)
        return call_headers(self._voice, call)

    def _time(self, call: Call) -> None:
        call.reply_headers["server-timing"] = server_timing(call, self._clock.monotonic())
