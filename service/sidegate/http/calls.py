"""Call routes: from an HTTP request to a call, and from its end to an HTTP reply."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import NamedTuple

from aiohttp import web

from sidegate.contract.call import Asked, Call
from sidegate.contract.ids import CallIds
from sidegate.contract.meaning import Request
from sidegate.contract.plugin import Handler
from sidegate.contract.timeouts import Patience, TimeoutChanges, asked_for
from sidegate.errors import SidegateError
from sidegate.http.exchange import Exchange
from sidegate.http.intake import check_head, read_json
from sidegate.http.replies import Voice
from sidegate.http.server import peer_of
from sidegate.http.sinks import StreamSink
from sidegate.outlet import BufferOutlet, ClientOutlet, StreamOutlet, named
from sidegate.service import Service
from sidegate.settings import Route
from sidegate.wire.basics import Basics, read_basics
from sidegate.wire.body import check_duplicates, read_fields, value
from sidegate.wire.dialect import Dialect, Envelope, Fields
from sidegate.wire.unsaid import unsaid

_LONGEST_MODEL = 512
_IDS_AHEAD = 64

Check = Callable[[web.Request, bool], SidegateError | None]
"""Of a request, and whether it wants a stream: what is wrong with that."""


class Placed(NamedTuple):
    """What the path of a request says, in a dialect that says it there."""

    model: str
    stream: bool = False
    wrong: SidegateError | None = None
    """What is wrong with the path or the query."""
    timeouts: TimeoutChanges | None = None
    """What a header of the dialect's own says of them."""
    default: bool = False
    """It is what counts where the body says nothing."""


class CallEndpoint:
    """One path of one route: reads the request, hands the call to `live`, and waits."""

    def __init__(
        self,
        service: Service,
        route: Route,
        handler: Handler,
        dialect: Dialect,
        *,
        voice: Voice | None = None,
        sink: type[StreamSink] = StreamSink,
    ) -> None:
        """`voice` answers with errors where it is not the dialect; `sink` frames streams."""
        self._service = service
        self._route = route
        self._dialect = dialect
        self._sink = sink
        self._ids = CallIds(_IDS_AHEAD)
        self._always_usage = dialect.name == "openai.responses" or not dialect.name.startswith("openai.")
        self.voice: Voice = voice or dialect
        self.exchange = Exchange(service, route, handler, self.voice)
        self.check: Check | None = None
        """Whether it may be asked so, where the route does not say yes to all."""

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    async def answer(self, request: web.Request, placed: Placed | None = None) -> web.StreamResponse:
        """`placed` is what the path says in a dialect that is `in_path`."""
        asked, model, stream = await self.ask(request, placed)
        call, outlet, sink = self._made(request, asked, model, stream)
        return await self.exchange.run(call, outlet, sink)

    async def serve(self, request: web.Request, asked: Asked, model: str, stream: bool) -> web.StreamResponse:
        """`answer`, where what came in has been read."""
        call, outlet, sink = self._made(request, asked, model, stream)
        return await self.exchange.run(call, outlet, sink)

    def _made(
        self, request: web.Request, asked: Asked, model: str, stream: bool
    ) -> tuple[Call, StreamOutlet | BufferOutlet, StreamSink | None]:
        now = self._service.clock.now()
        call_id = self._ids.new(now)
        outlet, sink = self._outlet(request, call_id, asked, model, stream, now)
        call = self._call(call_id, asked, model, "stream" if stream else "buffered", outlet, now)
        if self._route.timeouts is not None or asked.timeouts is not None:
            bounds = self._service.settings.server.client_timeouts
            call.patience = Patience(self._route.timeouts, asked.timeouts, bounds)
        return call, outlet, sink

    async def ask(self, request: web.Request, placed: Placed | None) -> tuple[Asked, str, bool]:
        """What came in, the model and whether to stream it.

        A mistake is kept for the end of the pipeline: who calls is asked before what.
        """
        body = b""
        fields: Fields = {}
        basics: Basics | None = None
        wrong: SidegateError | None = None
        timeouts: TimeoutChanges | None = None
        try:
            check_head(request)
            if placed is not None and placed.wrong is not None:
                raise placed.wrong
            timeouts = asked_for(request.headers) or (placed and placed.timeouts)
            body = await read_json(request, self._service.settings.server)
            fields = read_fields(body)
            if placed is not None:
                fields = self._dialect.place(fields, model=placed.model, stream=placed.stream)
            basics = read_basics(self._dialect.name, body)
            if self.check is not None:
                wrong = self.check(request, basics.streams if placed is None or placed.default else placed.stream)
        except SidegateError as error:
            wrong = error
        asked = Asked(
            headers=request.headers,
            body=body,
            fields=fields,
            wants_usage=self._always_usage or (basics is not None and basics.wants_usage),
            wrong=wrong,
            timeouts=timeouts,
            peer=peer_of(request),
            read=partial(_read, self._dialect, body, fields),
            unsaid=partial(unsaid, self._dialect.name, fields),
        )
        if basics is None:
            told = _model(fields) if placed is None or placed.default else placed.model[:_LONGEST_MODEL]
            return asked, told, False
        if placed is None:
            return asked, basics.model, basics.streams
        if placed.default:
            return asked, basics.model or placed.model, basics.streams
        return asked, placed.model, placed.stream

    def _outlet(
        self, request: web.Request, call_id: str, asked: Asked, model: str, stream: bool, now: datetime
    ) -> tuple[StreamOutlet | BufferOutlet, StreamSink | None]:
        service = self._service
        encoding = asked.fields.get("encoding_format")
        envelope = Envelope(
            id=call_id,
            model=model,
            created=int(now.timestamp()),
            include_usage=asked.wants_usage,
            encoding_format="base64" if encoding is not None and bytes(encoding) == b'"base64"' else None,
        )
        if not stream:
            make = self._dialect.assembler
            return BufferOutlet(self._dialect.name, lambda naming: make(named(envelope, naming)), service.clock), None
        sink = self._sink(request, service.clock, comments=self._dialect.comments)
        outlet = StreamOutlet(self._dialect, envelope, sink, service.clock)
        return outlet, sink

    def _call(self, call_id: str, asked: Asked, model: str, delivery: str, outlet: ClientOutlet, now: datetime) -> Call:
        service = self._service
        return Call(
            id=call_id,
            operation=self._dialect.operation,
            dialect=self._dialect.name,
            model=model,
            delivery=delivery,
            outlet=outlet,
            started=service.clock.monotonic(),
            started_at=now,
            asked=asked,
            route=self._route.name,
            hold_limit=service.settings.server.max_held_bytes,
            edit_timeout=service.settings.server.plugin_timeout,
            notes=outlet.notes,
        )


def _model(fields: Fields) -> str:
    """The model of a request that is wrong elsewhere, as far as it can be told."""
    try:
        return (value(fields, "model", str) or "")[:_LONGEST_MODEL]
    except SidegateError:
        return ""


def _read(dialect: Dialect, asked_body: bytes, fields: Fields) -> Request:
    """The whole meaning, for a plugin or a translation. A key that stands twice means two things: refused here."""
    check_duplicates(asked_body)
    return dialect.read_request(fields)
