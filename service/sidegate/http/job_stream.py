"""Streams that survive: on a route that is `resumable`, a stream is a job whose client reads along.

Each event has its id. A client that lost its connection comes back to the job's events with the last one it has seen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
from aiohttp import web
from msgspec.structs import replace

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.reply import Reply
from sidegate.http.calls import CallEndpoint
from sidegate.http.events import EventsOutlet, EventsSink, Reader, plain_asked
from sidegate.http.jobs import Asking, Jobs
from sidegate.jobs.desk import Desk, Wanted
from sidegate.jobs.frames import START
from sidegate.jobs.job import Job
from sidegate.jobs.reading import Reading
from sidegate.jobs.run import UI
from sidegate.service import Service
from sidegate.settings import Route
from sidegate.wire.registry import DIALECTS
from sidegate.wire.ui.dialect import CHAT

_MESSAGES = {"x-vercel-ai-ui-message-stream": "v1"}
_id = msgspec.json.Decoder(str)


async def stream_job(
    jobs: Jobs, request: web.Request, asking: Asking, wanted: Wanted, endpoint: CallEndpoint
) -> web.StreamResponse:
    """Keep the request as a job, and answer with what it says, as it says it."""
    dialect, desk = endpoint.dialect, jobs.desk
    sink = EventsSink(request, jobs.service.clock, comments=dialect.comments)
    outlet = EventsOutlet(sink, jobs.service.clock)
    call = jobs.call(outlet, asking, dialect.name)
    call.delivery, call.streams = "stream", True
    if dialect.name in UI:
        call.reply_headers.update(_MESSAGES)

    async def heart(call: Call) -> Reply:
        job = await desk.submit(call, replace(wanted, watched=True))
        call.reply_headers["x-sidegate-job"] = job.id
        call.reply_headers["content-location"] = f"{jobs.route.prefix}/v1/jobs/{job.id}/events"
        await _name(desk, call, job)
        job = await desk.begun(job)
        if job.why is not None and job.last <= 1:
            # Nothing was said before it: an error as any other.
            raise job.why
        return await _tell(desk, call, job)

    return await jobs.exchange(heart, endpoint.voice).run(call, outlet, sink)


class JobChats:
    """`GET /api/chat/{id}/stream` of one route: a page that was loaded anew gets the reply that is under way."""

    def __init__(self, service: Service, route: Route) -> None:
        self._jobs = Jobs(service, route)
        self._voice = DIALECTS[CHAT]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        jobs, chat = self._jobs, request.match_info["id"]
        sink = EventsSink(request, jobs.service.clock, comments=True)
        outlet = EventsOutlet(sink, jobs.service.clock)
        call = jobs.call(outlet, Asking(asked=plain_asked(request)), CHAT)
        call.streams = True
        call.reply_headers.update(_MESSAGES)

        async def heart(call: Call) -> Reply:
            if call.asked.wrong is not None:
                raise call.asked.wrong
            job = await jobs.desk.of_chat(call, chat)
            if job is None:
                outlet.over = True
                return Reply(status=204)
            return await _tell(jobs.desk, call, job)

        pipeline = jobs.service.plugins[jobs.route.pipeline]
        handler = jobs.service.around(pipeline, heart)
        return await Reader(jobs.service, jobs.route, handler, self._voice).run(call, outlet, sink)


async def _name(desk: Desk, call: Call, job: Job) -> None:
    if job.dialect != CHAT or (raw := call.asked.fields.get("id")) is None:
        return
    with suppress(msgspec.MsgspecError):
        await desk.name_chat(call, _id.decode(raw), job)


async def _tell(desk: Desk, call: Call, job: Job) -> Reply:
    """All it says, from its beginning, as it says it."""
    reading = Reading(desk.store, desk.watch, job, START, desk.leaves, plain=True)
    async for piece in reading.pieces(_cut):
        await call.send(Chunk(piece, dialect=job.dialect, parts=(), meaningful=True))
    return Reply()


async def _cut(job: Job) -> AsyncIterator[bytes]:
    """The reply has its own end, unless it was broken off where nobody could say so."""
    if job.untold is not None:
        raise job.untold
    return
    yield b""
