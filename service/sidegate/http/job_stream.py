"""Streams that survive: on a route that is `resumable`, a stream is a job whose client reads along.

Each event has its id. A client that lost its connection comes back to the job's events with the last one it has seen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web
from msgspec.structs import replace

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.reply import Reply
from sidegate.http.calls import CallEndpoint
from sidegate.http.job_events import EventsOutlet, EventsSink
from sidegate.http.jobs import Asking, Jobs
from sidegate.jobs.desk import Wanted
from sidegate.jobs.frames import START
from sidegate.jobs.job import Job, read_failure
from sidegate.jobs.reading import Reading


async def stream_job(
    jobs: Jobs, request: web.Request, asking: Asking, wanted: Wanted, endpoint: CallEndpoint
) -> web.StreamResponse:
    """Keep the request as a job, and answer with what it says, as it says it."""
    dialect, desk = endpoint.dialect, jobs.desk
    sink = EventsSink(request, jobs.service.clock, comments=dialect.comments)
    outlet = EventsOutlet(sink, jobs.service.clock)
    call = jobs.call(outlet, asking, dialect.name)
    call.delivery, call.streams = "stream", True

    async def heart(call: Call) -> Reply:
        job = await desk.submit(call, replace(wanted, watched=True))
        call.reply_headers["x-sidegate-job"] = job.id
        call.reply_headers["content-location"] = f"{jobs.route.prefix}/v1/jobs/{job.id}/events"
        job = await desk.begun(job)
        if job.error is not None and job.last <= 1:
            # Nothing was said before it: an error as any other.
            raise read_failure(job.error).raised()
        reading = Reading(desk.store, desk.watch, job, START, desk.leaves, plain=True)
        async for piece in reading.pieces(_nothing):
            await call.send(Chunk(piece, dialect=dialect.name, parts=(), meaningful=True))
        return Reply()

    return await jobs.exchange(heart, endpoint.voice).run(call, outlet, sink)


async def _nothing(job: Job) -> AsyncIterator[bytes]:
    """The reply has its own end."""
    return
    yield b""
