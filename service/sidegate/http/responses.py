"""Routes of responses that providers keep: fetch, follow, cancel, delete, and what they were asked.

The same pipeline as calls; the provider that keeps one is asked for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from sidegate.contract.call import Asked, Call
from sidegate.contract.ids import new_call_id
from sidegate.contract.plugin import Handler
from sidegate.contract.timeouts import Patience, asked_for
from sidegate.errors import BadRequest, SidegateError
from sidegate.http.exchange import Exchange
from sidegate.http.intake import check_head
from sidegate.http.parameters import fields
from sidegate.http.server import peer_of
from sidegate.http.sinks import StreamSink
from sidegate.outlet import BufferOutlet, StreamOutlet, named
from sidegate.service import Service
from sidegate.settings import Route
from sidegate.wire.dialect import Envelope
from sidegate.wire.registry import DIALECTS

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]

_ID = "{id:[A-Za-z0-9_.-]{1,256}}"


def response_routes(service: Service, route: Route, handler: Handler) -> list[tuple[str, Endpoint, str]]:
    """Path, endpoint and method of each."""

    def endpoint(operation: str) -> Endpoint:
        return ResponseEndpoint(service, route, handler, operation).answer

    one = f"{route.prefix}/v1/responses/{_ID}"
    return [
        (one, endpoint("get_response"), "GET"),
        (one, endpoint("delete_response"), "DELETE"),
        (one + "/cancel", endpoint("cancel_response"), "POST"),
        (one + "/input_items", endpoint("list_input_items"), "GET"),
    ]


class ResponseEndpoint:
    """One operation of one route."""

    def __init__(self, service: Service, route: Route, handler: Handler, operation: str) -> None:
        self._service = service
        self._route = route
        self._operation = operation
        self._dialect = DIALECTS["openai.responses"]
        self._exchange = Exchange(service, route, handler, self._dialect)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        service = self._service
        stream = self._operation == "get_response" and request.query.get("stream") == "true"
        now = service.clock.now()
        call_id = new_call_id(now)
        # Whatever model has made it, the response says so itself.
        envelope = Envelope(id=call_id, model="", created=int(now.timestamp()))
        sink = StreamSink(request, service.clock, comments=self._dialect.comments) if stream else None
        call = Call(
            id=call_id,
            operation=self._operation,
            dialect=self._dialect.name,
            model="",
            delivery="stream" if stream else "buffered",
            outlet=(outlet := self._outlet(envelope, sink)),
            started=service.clock.monotonic(),
            started_at=now,
            asked=Asked(
                headers=request.headers, fields=fields(request), wrong=_mistake(request), peer=peer_of(request)
            ),
            route=self._route.name,
            hold_limit=service.settings.server.max_held_bytes,
            edit_timeout=service.settings.server.plugin_timeout,
        )
        call.subject = request.match_info["id"]
        wished = None if call.asked.wrong is not None else asked_for(request.headers)
        if self._route.timeouts is not None or wished is not None:
            call.patience = Patience(self._route.timeouts, wished, service.settings.server.client_timeouts)
        return await self._exchange.run(call, outlet, sink)

    def _outlet(self, envelope: Envelope, sink: StreamSink | None) -> StreamOutlet | BufferOutlet:
        clock, dialect = self._service.clock, self._dialect
        if sink is not None:
            return StreamOutlet(dialect, envelope, sink, clock)
        return BufferOutlet(dialect.name, lambda naming: dialect.assembler(named(envelope, naming)), clock)


def _mistake(request: web.Request) -> SidegateError | None:
    try:
        check_head(request)
        asked_for(request.headers)
    except SidegateError as error:
        return error
    if request.method == "POST" and (request.content_length or 0) > 2:
        # Nothing is read of it; an SDK sends none, or an empty object.
        return BadRequest("This is asked without a body.")
    return None
