"""Results of jobs over HTTP: as their clients would have had them, and how jobs stand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec

from sidegate.errors import Refusal, SidegateError
from sidegate.http.prefer import Prefer
from sidegate.http.replies import Voice, when
from sidegate.jobs import frames
from sidegate.jobs.desk import RETRY_SECONDS, Desk
from sidegate.jobs.frames import Position
from sidegate.jobs.job import Job, read_submission
from sidegate.jobs.run import UI
from sidegate.wire import sse
from sidegate.wire.header_fields import sound
from sidegate.wire.registry import DIALECTS

_JSON = "application/json"
_kept = msgspec.json.Decoder(dict[str, str])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request about a job is answered."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = _JSON


def accepted(job: Job, body: bytes, prefix: str, prefer: Prefer) -> Answer:
    """202, and where to look for it (RFC 7240 section 4.1)."""
    headers = {
        "Location": f"{prefix}/v1/jobs/{job.id}",
        "Preference-Applied": prefer.applied,
        "Vary": "Prefer",
        **when(RETRY_SECONDS),
    }
    return Answer(202, body, headers)


def job_answer(job: Job, body: bytes) -> Answer:
    """How it stands, and when to ask again."""
    return Answer(200, body, {"Cache-Control": "no-store", **({} if job.ended else when(RETRY_SECONDS))})


async def result(desk: Desk, job: Job, voice: Voice | None = None, *, applied: str = "") -> Answer:
    """The reply in the words of its dialect; an error where nothing was said before it. 409 while it runs."""
    if not job.ended:
        raise Refusal(409, "job_not_ended", "The job has not ended yet.", retry_after=RETRY_SECONDS)
    kept = await desk.store.submission(job.id)
    data = b"".join([piece async for piece in _frames(desk, job)])
    submission = read_submission(kept[0]) if kept is not None and kept[0] else None
    headers = {"x-sidegate-job": job.id, "Cache-Control": "no-store"}
    if applied:
        headers |= {"Preference-Applied": applied, "Vary": "Prefer"}
    if kept is not None:
        headers |= sound(_kept.decode(kept[1]))
    if job.why is not None and not (job.streams and job.last > 1):
        return _failed(job, job.why, voice, headers)
    if not job.streams:
        return Answer(200, frames.body_of(data), headers)
    events = frames.without_ids(data)
    if job.untold is not None:
        events += DIALECTS[job.dialect].write_error_event(job.untold, job.call_id or job.id)
    if job.dialect in UI:
        headers["x-vercel-ai-ui-message-stream"] = "v1"
    if submission is not None and submission.array:
        elements = [one for event in sse.Splitter().feed(events) if (one := sse.data(event)) is not None]
        return Answer(200, b"[" + b",\r\n".join(elements) + b"]", headers)
    return Answer(200, events, headers, "text/event-stream")


def _failed(job: Job, error: SidegateError, voice: Voice | None, headers: dict[str, str]) -> Answer:
    if error.retry_after is not None:
        headers |= when(error.retry_after)
    voice = voice or DIALECTS[job.dialect]
    return Answer(error.status, voice.write_error(error, job.call_id or job.id), headers)


async def _frames(desk: Desk, job: Job) -> AsyncIterator[bytes]:
    at: Position = (job.generation, 0)
    while at[1] < job.last:
        rows = await desk.store.events(job.id, at, 64)
        if not rows:
            return
        for first, data in rows:
            at = (job.generation, first + data.count(b"\n\n") - 1)
            yield data
