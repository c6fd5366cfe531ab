"""Streams that survive: on a route that is `resumable`, what a stream says is kept for a while, and its client may come
back for the rest with the last id it has seen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
from aiohttp import web

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.ids import new_call_id
from sidegate.contract.plugin import Handler
from sidegate.contract.reply import Reply
from sidegate.errors import SidegateError
from sidegate.http.events import EventsOutlet, EventsSink, Reader, plain_asked
from sidegate.http.exchange import Exchange
from sidegate.http.replies import Voice, error_reply
from sidegate.http.sinks import StreamSink
from sidegate.jobs import frames
from sidegate.jobs.frames import START
from sidegate.live import LiveCall
from sidegate.outlet import BufferOutlet, StreamOutlet
from sidegate.service import Service
from sidegate.settings import Route
from sidegate.streams.reading import Reading
from sidegate.streams.stream import Stream
from sidegate.wire.own import Own
from sidegate.wire.registry import DIALECTS
from sidegate.wire.ui.dialect import CHAT

PLACE = "content-location"
"""The head that says where a stream goes on."""

Find = Callable[[Call], Awaitable[Reading | None]]

_id = msgspec.json.Decoder(str)


class ResumableExchange(Exchange):
    """Its streams are kept, with an id for each event. What is no stream of events stays as it is."""

    def __init__(self, service: Service, route: Route, handler: Handler, voice: Voice) -> None:
        super().__init__(service, route, handler, voice)
        self._streams = service.ground.streams()
        self._prefix = route.prefix

    async def run(self, call: Call, outlet: StreamOutlet | BufferOutlet, sink: StreamSink | None) -> web.StreamResponse:
        if sink is None or not sink.numbers or not isinstance(outlet, StreamOutlet):
            return await super().run(call, outlet, sink)
        stream = self._streams.open(call, self._on_disconnect)
        if stream is None:
            return await super().run(call, outlet, sink)
        call.reply_headers[PLACE] = f"{self._prefix}/v1/streams/{stream.id}/events"
        outlet.notes = call.notes
        outlet.sink = stream.before(sink, comments=sink.comments)
        sink.headers = lambda: self._begins(call, stream)
        try:
            live = self._live.start(call, self._handler, outlet, self._on_disconnect)
        except SidegateError as error:
            self._streams.drop(stream)
            call.reply_headers.pop(PLACE, None)
            return error_reply(self._voice, error, call)
        stream.began(live)
        live.done.add_done_callback(lambda _: self._end(live, stream, outlet, sink))
        try:
            await live.ended()
        except asyncio.CancelledError:
            sink.leave()
            stream.left()
            raise
        event = self._end(live, stream, outlet, sink)
        if sink.begun:
            return await (sink.end() if event is None else sink.fail(event))
        assert live.reply is not None
        return await self._finish(live.reply.error, call, outlet, sink)

    def _begins(self, call: Call, stream: Stream) -> dict[str, str]:
        """Its head is about to leave: who asks is known, and there will be something to come back to."""
        if call.dialect == CHAT and (raw := call.asked.fields.get("id")) is not None:
            with suppress(msgspec.MsgspecError):
                self._streams.name(call, stream, _id.decode(raw))
        return self._headers(call)

    def _end(self, live: LiveCall, stream: Stream, outlet: StreamOutlet, sink: StreamSink) -> bytes | None:
        """Once: the error event, where it failed, numbered as its readers are told it."""
        assert live.reply is not None
        # A sign of life has sent the head, too: then an error can only be an event.
        error, said = live.reply.error, stream.log.last > 0 or sink.begun
        event = None
        if error is not None and said:
            event = outlet.failure(self._voice.write_error_event(error, live.call.id))
        told = stream.end(live.reply.ending.value, event)
        if not said:
            live.call.reply_headers.pop(PLACE, None)
            self._streams.drop(stream)
        return told


class StreamEvents:
    """What a stream says, told again: `GET /v1/streams/{id}/events`, and `GET /api/chat/{id}/stream` of the AI SDK."""

    def __init__(self, service: Service, route: Route) -> None:
        self._service = service
        self._route = route
        self._streams = service.ground.streams()

    async def events(self, request: web.Request) -> web.StreamResponse:
        """From behind `Last-Event-ID` to the end."""

        async def find(call: Call) -> Reading:
            told = request.headers.get("Last-Event-ID", "")
            seen = frames.read_position(told) if told else START
            return await self._streams.find(call, request.match_info["id"], seen)

        return await self._told(request, find, Own())

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """The reply that this chat is being given, from its beginning; 204 where there is none."""

        async def find(call: Call) -> Reading | None:
            call.reply_headers["x-vercel-ai-ui-message-stream"] = "v1"
            return await self._streams.of_chat(call, request.match_info["id"])

        return await self._told(request, find, DIALECTS[CHAT])

    async def _told(self, request: web.Request, find: Find, voice: Voice) -> web.StreamResponse:
        service, route = self._service, self._route
        sink = EventsSink(request, service.clock, comments=True)
        outlet = EventsOutlet(sink, service.clock)

        async def heart(call: Call) -> Reply:
            if call.asked.wrong is not None:
                raise call.asked.wrong
            reading = await find(call)
            if reading is None or reading.over:
                outlet.over = True
                return Reply(status=204)
            async for piece in reading.pieces():
                await call.send(Chunk(piece, dialect=voice.name, parts=(), meaningful=True))
            return Reply()

        handler = service.around(service.plugins[route.pipeline], heart)
        return await Reader(service, route, handler, voice).run(self._call(request, outlet, voice), outlet, sink)

    def _call(self, request: web.Request, outlet: EventsOutlet, voice: Voice) -> Call:
        clock = self._service.clock
        now = clock.now()
        call = Call(
            id=new_call_id(now),
            operation="streams",
            dialect=voice.name,
            model="",
            delivery="stream",
            outlet=outlet,
            started=clock.monotonic(),
            started_at=now,
            asked=plain_asked(request),
            route=self._route.name,
        )
        call.subject = request.match_info["id"]
        return call
