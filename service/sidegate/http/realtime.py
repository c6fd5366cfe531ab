"""Realtime endpoint: `GET /v1/realtime`, from its handshake to its close code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from sidegate.contract.call import Asked, Call
from sidegate.contract.ids import new_call_id
from sidegate.contract.timeouts import Patience, asked_for
from sidegate.errors import BadRequest, Cancelled, Ending, SidegateError
from sidegate.http.intake import check_head
from sidegate.http.replies import call_headers, error_reply
from sidegate.http.server import peer_of
from sidegate.http.socket import ClientSocket
from sidegate.live import LiveCall
from sidegate.realtime.outlet import SocketOutlet
from sidegate.realtime.relay import Relay
from sidegate.realtime.session import Session
from sidegate.service import Service
from sidegate.settings import Route
from sidegate.sockets.opening import Opening, allowed_origins, read_opening
from sidegate.wire.openai_realtime.events import NAME
from sidegate.wire.registry import DIALECTS

PATH = "/v1/realtime"
PROTOCOL = "realtime"

_INTENTS = frozenset({"transcription"})
_LONGEST_MODEL = 512


def realtime_routes(
    service: Service, route: Route
) -> list[tuple[str, Callable[[web.Request], Awaitable[web.StreamResponse]], str]]:
    """What a route serves of it."""
    return [(route.prefix + PATH, RealtimeEndpoint(service, route).answer, "GET")]


class RealtimeEndpoint:
    """Of one route."""

    def __init__(self, service: Service, route: Route) -> None:
        self._service = service
        self._route = route
        self._relay = Relay(service, route)
        self._origins = allowed_origins(service.settings)
        self._voice = DIALECTS["openai.chat"]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Run the session. Refused before its provider is reached, it is answered in HTTP; after, by a close code."""
        service, sockets = self._service, self._service.settings.sockets
        opening = read_opening(request.headers, self._origins, upgrades=ClientSocket.upgrades(request))
        outlet = SocketOutlet(service.clock)
        call = self._call(request, opening, outlet)
        lingers = self._route.on_disconnect != "cancel"
        session = Session(call, self._relay, service.live, sockets, service.clock, lingers=lingers)
        session.intent = request.query.get("intent", "")
        self._relay.add(session)
        try:
            live = service.live.start(call, self._relay.handler, outlet, "cancel")
        except SidegateError as error:
            self._relay.forget(session)
            return error_reply(self._voice, error, call)
        live.done.add_done_callback(lambda _: self._relay.forget(session))
        socket = ClientSocket(request, sockets, service.clock)
        try:
            return await self._run(session, live, socket, opening)
        except asyncio.CancelledError:
            # A session that has begun hears of it by its socket, and has what is under way to settle.
            if not session.ready.done():
                live.stop(Cancelled(Ending.CLIENT_GONE))
            raise

    async def _run(
        self, session: Session, live: LiveCall, socket: ClientSocket, opening: Opening
    ) -> web.StreamResponse:
        ended = live.ended()
        await asyncio.wait((session.opened, ended), return_when=asyncio.FIRST_COMPLETED)
        if not session.opened.done():
            assert live.reply is not None
            error = live.reply.error or SidegateError("The gateway failed.")
            return error_reply(self._voice, error, session.call)
        protocol = PROTOCOL if PROTOCOL in opening.protocols else next(iter(opening.protocols), "")
        try:
            await socket.open(protocol, call_headers(self._voice, session.call))
        except ConnectionError:
            live.stop(Cancelled(Ending.CLIENT_GONE))
            await ended
            raise
        live.outlet.sink = socket
        # It may have been stopped since its provider was reached.
        if not session.ready.done():
            session.ready.set_result(socket)
        await ended
        await socket.close(session.how)
        return socket.ended()

    def _call(self, request: web.Request, opening: Opening, outlet: SocketOutlet) -> Call:
        service, route = self._service, self._route
        now = service.clock.now()
        wrong, model = opening.wrong, request.query.get("model", "")[:_LONGEST_MODEL] or route.default_model
        timeouts = None
        try:
            check_head(request)
            timeouts = asked_for(request.headers)
            _check(request, model)
        except SidegateError as error:
            wrong = wrong or error
        asked = Asked(headers=opening.headers, wrong=wrong, timeouts=timeouts, peer=peer_of(request))
        call = Call(
            id=new_call_id(now),
            operation="realtime",
            dialect=NAME,
            model=model,
            delivery="socket",
            outlet=outlet,
            started=service.clock.monotonic(),
            started_at=now,
            asked=asked,
            route=route.name,
            edit_timeout=service.settings.server.plugin_timeout,
        )
        call.streams = True
        call.notes.relayed = True
        outlet.notes = call.notes
        if route.timeouts is not None or timeouts is not None:
            call.patience = Patience(route.timeouts, timeouts, service.settings.server.client_timeouts)
        return call


def _check(request: web.Request, model: str) -> None:
    """What the query says. A session that somebody else has opened with the provider is nobody's here."""
    if "call_id" in request.query:
        raise BadRequest("Sessions of other connections cannot be joined.", param="call_id", code="call_id_unsupported")
    if (intent := request.query.get("intent", "")) and intent not in _INTENTS:
        raise BadRequest("This intent is not known.", param="intent")
    if not model:
        raise BadRequest("Say which model: ?model=NAME.", param="model", code="missing_model")
