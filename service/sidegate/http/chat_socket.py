"""The chat socket: `GET /v1/chat/ws`, from its handshake to its close code, and `POST /v1/chat/ws/ticket` for pages."""

from __future__ import annotations

import asyncio

from aiohttp import web

from sidegate.contract.call import Asked, Call
from sidegate.contract.ids import new_call_id
from sidegate.contract.plugin import Handler
from sidegate.contract.reply import Reply
from sidegate.conversations.house import Ticket
from sidegate.conversations.session import Session
from sidegate.errors import Cancelled, Ending, Refusal, SidegateError
from sidegate.http.events import plain_asked
from sidegate.http.exchange import Exchange
from sidegate.http.intake import check_head
from sidegate.http.replies import call_headers, error_reply
from sidegate.http.server import peer_of
from sidegate.http.socket import ClientSocket
from sidegate.jobs.shown import encoded
from sidegate.live import CHAT_SOCKET, LiveCall
from sidegate.outlet import BufferOutlet
from sidegate.records import send
from sidegate.service import Service
from sidegate.settings import Route
from sidegate.sockets.opening import allowed_origins, read_opening
from sidegate.wire.own import Own

PATH = "/v1/chat/ws"
PROTOCOL = "sidegate.chat.v1"


class ChatSocket:
    """Of one route."""

    def __init__(self, service: Service, route: Route) -> None:
        self._service = service
        self._route = route
        self._house = service.ground.house()
        self._origins = allowed_origins(service.settings)
        self._voice = Own()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Run the session. Refused before it was let in, it is answered in HTTP; after, by a close code."""
        service, sockets = self._service, self._service.settings.sockets
        opening = read_opening(request.headers, self._origins, upgrades=ClientSocket.upgrades(request))
        wrong, ticket = opening.wrong, None
        if wrong is None and "ticket" in request.query:
            # Used up only by a handshake that is one, from a page that may.
            ticket = self._house.holder(request.query["ticket"])
            if ticket is None:
                wrong = Refusal(401, "invalid_ticket", "The ticket is not valid here, or not any more.")
        try:
            check_head(request)
        except SidegateError as error:
            wrong = wrong or error
        outlet = BufferOutlet("sidegate", None, service.clock)
        asked = Asked(headers=opening.headers, wrong=wrong, peer=peer_of(request))
        call = self._call(asked, outlet, ticket)
        session = Session(self._house, service, self._route, service.clock)
        known = ticket is not None or (wrong is not None and wrong.code == "invalid_ticket")
        try:
            live = service.live.start(call, self._around(session, known=known), outlet, "cancel")
        except SidegateError as error:
            return error_reply(self._voice, error, call)
        socket = ClientSocket(request, sockets, service.clock)
        try:
            return await self._run(call, session, live, socket, opening.protocols)
        except asyncio.CancelledError:
            # A session that has begun hears of it by its socket, and knows better why it ends.
            if not session.ready.done():
                live.stop(Cancelled(Ending.CLIENT_GONE))
            raise

    async def _run(
        self, call: Call, session: Session, live: LiveCall, socket: ClientSocket, offered: tuple[str, ...]
    ) -> web.StreamResponse:
        ended = live.ended()
        await asyncio.wait((session.opened, ended), return_when=asyncio.FIRST_COMPLETED)
        if not session.opened.done():
            assert live.reply is not None
            return error_reply(self._voice, live.reply.error or SidegateError("The gateway failed."), call)
        try:
            await socket.open(PROTOCOL if PROTOCOL in offered else "", call_headers(self._voice, call))
        except ConnectionError:
            live.stop(Cancelled(Ending.CLIENT_GONE))
            raise
        live.outlet.sink = socket
        session.ready.set_result(socket)
        await ended
        await socket.close(session.how)
        return socket.ended()

    async def ticket(self, request: web.Request) -> web.StreamResponse:
        """What opens one socket where no header can be sent, for a page; its server asks for it."""
        outlet = BufferOutlet("sidegate", None, self._service.clock)
        call = self._call(plain_asked(request), outlet, None)
        call.delivery = "buffered"

        async def heart(call: Call) -> Reply:
            if call.asked.wrong is not None:
                raise call.asked.wrong
            ticket, until = self._house.ticket(call)
            url = f"{self._route.prefix}{PATH}?ticket={ticket}"
            call.reply_headers["cache-control"] = "no-store"
            return await send(call, encoded({"ticket": ticket, "expires_at": until, "url": url}))

        exchange = Exchange(self._service, self._route, self._around(heart, known=False), self._voice)
        response = await exchange.run(call, outlet, None)
        if response.status == 200:
            response.set_status(201)
        return response

    def _around(self, heart: Handler, *, known: bool) -> Handler:
        return self._service.around(self._service.plugins[self._route.pipeline], heart, known=known)

    def _call(self, asked: Asked, outlet: BufferOutlet, ticket: Ticket | None) -> Call:
        clock = self._service.clock
        now = clock.now()
        call = Call(
            id=new_call_id(now),
            operation=CHAT_SOCKET,
            dialect="sidegate",
            model="",
            delivery="socket",
            outlet=outlet,
            started=clock.monotonic(),
            started_at=now,
            asked=asked,
            route=self._route.name,
        )
        outlet.notes = call.notes
        if ticket is not None:
            call.caller, call.end_user = ticket.caller, ticket.end_user
            call.notes.visible.extend(ticket.visible)
        return call
