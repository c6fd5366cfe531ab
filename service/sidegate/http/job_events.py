"""Events of a job, for a browser's `EventSource` (WHATWG HTML, section 9.2) and whoever else reads them.

A reader is a call in flight as long as it reads: it is seen, bounded, shown signs of life, and cut where it stands
still. A slow one holds up nobody: it reads the record, at its own pace.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.plugin import Handler
from sidegate.contract.reply import Reply
from sidegate.http.events import EventsOutlet, EventsSink, Reader, plain_asked
from sidegate.http.exchange import Exchange
from sidegate.http.jobs import Asking, Jobs
from sidegate.jobs import frames
from sidegate.jobs.frames import START
from sidegate.jobs.job import Job
from sidegate.jobs.reading import Reading
from sidegate.service import Service
from sidegate.settings import Route
from sidegate.wire.own import Own


class JobEvents:
    """`GET /v1/jobs/{id}/events` of one route."""

    def __init__(self, service: Service, route: Route) -> None:
        self._jobs = Jobs(service, route)
        self._voice = Own()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        id, ticket = request.match_info["id"], request.query.get("ticket")
        caller = None if ticket is None else await self._jobs.desk.holder(ticket, id)
        sink = EventsSink(request, self._jobs.service.clock, comments=True)
        outlet = EventsOutlet(sink, self._jobs.service.clock)
        asking = Asking(subject=id, asked=plain_asked(request), caller=caller)
        call = self._jobs.call(outlet, asking, self._voice.name)
        call.streams = True
        exchange = self._exchange(self._heart(request, outlet), known=caller is not None)
        return await exchange.run(call, outlet, sink)

    def _exchange(self, heart: Handler, *, known: bool) -> Exchange:
        service, route = self._jobs.service, self._jobs.route
        around = service.around(service.plugins[route.pipeline], heart, known=known)
        return Reader(service, route, around, self._voice)

    def _heart(self, request: web.Request, outlet: EventsOutlet) -> Handler:
        desk = self._jobs.desk

        async def last(job: Job) -> AsyncIterator[bytes]:
            body = await desk.body(job, self._jobs.route.prefix)
            yield frames.event("end", body, (job.generation, job.last + 1))

        async def read(call: Call) -> Reply:
            if call.asked.wrong is not None:
                raise call.asked.wrong
            job = await desk.find(call)
            told = request.headers.get("Last-Event-ID", "")
            seen = frames.read_position(told) if told else START
            reading = Reading(desk.store, desk.watch, job, seen, desk.leaves)
            if reading.over:
                outlet.over = True
                return Reply(status=204)
            async for piece in reading.pieces(last):
                await call.send(Chunk(piece, dialect=self._voice.name, parts=(), meaningful=True))
            return Reply()

        return read
