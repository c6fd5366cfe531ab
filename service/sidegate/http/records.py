"""Record routes: models, calls, usage, answered from what the gateway knows itself. The same pipeline, no provider."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from msgspec import Raw

from sidegate.contract.call import Asked, Call
from sidegate.contract.ids import new_call_id
from sidegate.contract.plugin import Handler
from sidegate.errors import SidegateError
from sidegate.http.exchange import Exchange
from sidegate.http.intake import check_head
from sidegate.http.parameters import fields
from sidegate.http.replies import Voice
from sidegate.http.server import peer_of
from sidegate.outlet import BufferOutlet
from sidegate.service import Service
from sidegate.settings import Route


class RecordEndpoint:
    """One operation of one route, in the voice of whoever asks."""

    def __init__(self, service: Service, route: Route, handler: Handler, operation: str, voice: Voice) -> None:
        self._service = service
        self._route = route
        self._operation = operation
        self._voice = voice
        self._exchange = Exchange(service, route, handler, voice)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        service = self._service
        subject = request.match_info.get("id", "")
        outlet = BufferOutlet(self._voice.name, None, service.clock)
        now = service.clock.now()
        call = Call(
            id=new_call_id(now),
            operation=self._operation,
            dialect=self._voice.name,
            model=subject if self._operation == "models" else "",
            delivery="buffered",
            outlet=outlet,
            started=service.clock.monotonic(),
            started_at=now,
            asked=Asked(
                headers=request.headers,
                fields=self._fields(request),
                wrong=_mistake(request),
                peer=peer_of(request),
            ),
            route=self._route.name,
        )
        call.subject = subject
        return await self._exchange.run(call, outlet, None)

    def _fields(self, request: web.Request) -> Mapping[str, Raw]:
        return fields(request) if self._operation == "usage" else {}


def _mistake(request: web.Request) -> SidegateError | None:
    try:
        check_head(request)
    except SidegateError as error:
        return error
    return None
