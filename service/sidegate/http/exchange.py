"""Exchange: one HTTP request while its call is in flight. Hands the call to `live`, waits, and draws how it ended."""

from __future__ import annotations

import asyncio

from aiohttp import web

from sidegate.contract.call import Call
from sidegate.contract.plugin import Handler
from sidegate.errors import SidegateError
from sidegate.http.replies import Voice, buffered_reply, error_reply
from sidegate.http.sinks import StreamSink
from sidegate.live import LiveCall
from sidegate.outlet import BufferOutlet, StreamOutlet
from sidegate.service import Service
from sidegate.settings import Route


class Exchange:
    """What all endpoints of one route and dialect share."""

    def __init__(self, service: Service, route: Route, handler: Handler, voice: Voice) -> None:
        self._live = service.live
        self._heartbeat = service.settings.server.heartbeat
        self._on_disconnect = route.on_disconnect
        self._handler = handler
        self._voice = voice

    async def run(self, call: Call, outlet: StreamOutlet | BufferOutlet, sink: StreamSink | None) -> web.StreamResponse:
        """Answer the request. Where its client leaves, `live` is told, and the cancellation goes on its way."""
        outlet.notes = call.notes
        try:
            live = self._live.start(call, self._handler, outlet, self._on_disconnect)
        except SidegateError as error:
            return error_reply(self._voice, error, call)
        try:
            if sink is not None:
                await self._first(live, sink)
            await asyncio.shield(live.done)
        except asyncio.CancelledError:
            if sink is not None:
                sink.leave()
            self._live.client_left(live)
            raise
        assert live.reply is not None
        return await self._finish(live.reply.error, call, outlet, sink)

    async def _first(self, live: LiveCall, sink: StreamSink) -> None:
        """A stream that stays silent shows a sign of life: that commits its status, not an attempt."""
        await asyncio.wait([live.done], timeout=self._heartbeat)
        if not live.done.done():
            await sink.begin()

    async def _finish(
        self, error: SidegateError | None, call: Call, outlet: StreamOutlet | BufferOutlet, sink: StreamSink | None
    ) -> web.StreamResponse:
        if sink is not None and sink.begun:
            if error is not None:
                await sink.write(self._voice.write_error_event(error, call.id))
            return await sink.end()
        if error is not None:
            return error_reply(self._voice, error, call)
        if sink is not None:
            return await sink.end()
        assert isinstance(outlet, BufferOutlet)
        return buffered_reply(self._voice, outlet.body(), call)
