"""What the paths of jobs share: each request there is a call of operation `jobs`, with a heart of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web
from msgspec.structs import replace

from sidegate.contract.call import Asked, Call
from sidegate.contract.caller import Caller
from sidegate.contract.ids import new_call_id
from sidegate.contract.plugin import Handler
from sidegate.contract.reply import Reply
from sidegate.http.exchange import Exchange
from sidegate.http.job_result import Answer
from sidegate.http.replies import Voice
from sidegate.jobs.desk import Desk
from sidegate.outlet import BufferOutlet
from sidegate.records import send
from sidegate.service import Service
from sidegate.settings import Route

Verb = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, and for which job."""

    subject: str = ""
    model: str = ""
    asked: Asked = field(default_factory=Asked)
    caller: tuple[Caller, str | None] | None = None
    """Caller and end user, where a ticket has told."""


class Jobs:
    """What all job endpoints of one route share."""

    def __init__(self, service: Service, route: Route) -> None:
        assert service.jobs is not None
        self.service = service
        # A client that leaves has only stopped reading: what it reads about goes on.
        self.route = replace(route, on_disconnect="cancel")
        self.desk: Desk = service.jobs.desk

    async def answer(self, verb: Verb, asking: Asking, voice: Voice, dialect: str) -> web.StreamResponse:
        """Run a verb as a call, and say what it gave."""
        given: list[Answer] = []

        async def heart(call: Call) -> Reply:
            found = await verb(call)
            given.append(found)
            await send(call, found.body)
            return Reply(status=found.status)

        outlet = BufferOutlet(dialect, None, self.service.clock)
        call = self.call(outlet, asking, dialect)
        response = await self.exchange(heart, voice).run(call, outlet, None)
        if given and isinstance(response, web.Response) and response.status == 200:
            response.set_status(given[0].status)
            response.content_type = given[0].content_type
            response.headers.update(given[0].headers)
        return response

    def exchange(self, heart: Handler, voice: Voice, *, known: bool = False) -> Exchange:
        """The pipeline round this heart, for one request."""
        pipeline = self.service.plugins[self.route.pipeline]
        return Exchange(self.service, self.route, self.service.around(pipeline, heart, known=known), voice)

    def call(self, outlet: BufferOutlet, asking: Asking, dialect: str) -> Call:
        clock = self.service.clock
        now = clock.now()
        call = Call(
            id=new_call_id(now),
            operation="jobs",
            dialect=dialect,
            model=asking.model,
            delivery="buffered",
            outlet=outlet,
            started=clock.monotonic(),
            started_at=now,
            asked=asking.asked,
            route=self.route.name,
        )
        call.subject = asking.subject
        if asking.caller is not None:
            call.caller, call.end_user = asking.caller
        return call
