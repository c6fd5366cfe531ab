"""Desk: what clients ask of jobs. Each verb is the heart of a call: the pipeline has said who asks.

Another's job is not there: 404, in the words of one that never was.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any, Literal, get_args

from msgspec import Struct

from sidegate.contract.call import Call
from sidegate.contract.caller import ANONYMOUS, Caller
from sidegate.contract.host import Clock
from sidegate.errors import BadRequest, GatewayStopping, Refusal
from sidegate.jobs.job import Job, NewJob, State, Submission, encode, read_submission
from sidegate.jobs.serving import Serving
from sidegate.jobs.shown import encoded, shown
from sidegate.jobs.store import Full, JobStore
from sidegate.jobs.watch import Watch
from sidegate.jobs.worker import Worker
from sidegate.ledger.rows import stamp
from sidegate.settings import Jobs

RETRY_SECONDS = 2
"""What a client that asks again and again is told to wait."""
CANCEL_SECONDS = 5.0
"""How long a cancelled job is given to end before the answer."""
MOST_LISTED = 100

_STATES = frozenset(get_args(State)) - {"removed"}


class Wanted(Struct, frozen=True, kw_only=True):
    """What a request asks for besides its call, to be accepted as a job."""

    id: str
    route: str
    operation: str
    dialect: str
    streams: bool
    placed: tuple[str, bool] | None
    array: bool
    urgency: int
    again: str | None
    headers: dict[str, str]
    watched: bool = False


class Desk:
    """The verbs. They raise a `Refusal`: 400, 404, 409, 410, 422, 429, 503."""

    def __init__(
        self,
        settings: Jobs,
        store: JobStore,
        worker: Worker,
        watch: Watch,
        serving: Callable[[], Serving],
        clock: Clock,
        draining: Callable[[], bool],
    ) -> None:
        self.settings = settings
        self.store = store
        self.watch = watch
        self._worker = worker
        self._serving = serving
        self._clock = clock
        self._draining = draining

    async def submit(self, call: Call, wanted: Wanted) -> Job:
        """Accept it, durably. What is wrong with it is said now, as far as that can be known."""
        if call.asked.wrong is not None:
            raise call.asked.wrong
        _ = call.request
        self._serving().catalogue.find(call)
        now = self._clock.now()
        new = NewJob(
            id=wanted.id,
            caller=call.caller.name,
            route=wanted.route,
            operation=wanted.operation,
            dialect=wanted.dialect,
            model=call.model,
            streams=wanted.streams,
            urgency=max(wanted.urgency, self.settings.most_urgent),
            submission=encode(self._submission(call, wanted)),
            body=call.asked.body,
            again=None if wanted.again is None else _digest(call.caller.name, call.end_user or "", wanted.again),
            digest=_digest(*_what(call, wanted)),
            created_at=stamp(now),
            give_up_at=stamp(now + timedelta(seconds=self.settings.time_to_live)),
        )
        try:
            job = await self.store.submit(new, self.settings.max_queued)
        except Full:
            message = f"You have {self.settings.max_queued} jobs waiting: no more are accepted."
            raise Refusal(429, "too_many_jobs", message, retry_after=RETRY_SECONDS) from None
        if job.digest != new.digest:
            raise Refusal(422, "idempotency_key_reused", "This Idempotency-Key was used for another request.")
        self._worker.wake()
        return job

    def _submission(self, call: Call, wanted: Wanted) -> Submission:
        return Submission(
            caller=None if call.caller is ANONYMOUS else call.caller,
            end_user=call.end_user,
            placed=wanted.placed,
            array=wanted.array,
            headers=wanted.headers,
            timeouts=call.asked.timeouts,
            wants_usage=call.asked.wants_usage,
            watched=wanted.watched,
        )

    async def find(self, call: Call) -> Job:
        """The caller's own by its id."""
        job = await self.store.get(call.subject)
        if job is None or job.caller != call.caller.name:
            raise Refusal(404, "job_not_found", "There is no such job.")
        if job.state == "removed":
            raise Refusal(410, "job_gone", "The job was kept for its time, and dropped.")
        return job

    async def ended(self, job: Job, seconds: float) -> Job:
        """The job, when it has ended or the time is over; at once where nobody here should wait for it any more."""
        if job.ended or seconds <= 0:
            return job
        loop = asyncio.get_running_loop()
        due = loop.time() + min(seconds, self.settings.max_wait)
        async with self.watch.following(job.id) as news:
            while True:
                news.clear()
                job = await self.store.get(job.id) or job
                if job.ended or job.state == "removed" or self.leaves(job.id):
                    return job
                try:
                    async with asyncio.timeout_at(due):
                        await news.wait()
                except TimeoutError:
                    return await self.store.get(job.id) or job

    async def begun(self, job: Job) -> Job:
        """The job, when it has said something or has ended."""
        async with self.watch.following(job.id) as news:
            while True:
                news.clear()
                job = await self.store.get(job.id) or job
                if job.last > 0 or job.ended:
                    return job
                if self.leaves(job.id):
                    raise GatewayStopping()
                await news.wait()

    def leaves(self, id: str) -> bool:
        """Whether who waits for the job here should go: the gateway drains, and the job does not end in that time."""
        return self._draining() and id not in self._worker

    async def cancel(self, call: Call) -> Job:
        """Stop it wherever it runs; one that has ended stays as it is."""
        return await self._cancelled(await self.find(call))

    async def _cancelled(self, job: Job) -> Job:
        if job.ended:
            return job
        now = self._clock.now()
        keep_until = stamp(now + timedelta(seconds=self.settings.keep))
        job = await self.store.cancel(job.id, stamp(now), keep_until) or job
        self._worker.cancel(job.id)
        self.watch.told(job.id)
        return await self.ended(job, CANCEL_SECONDS)

    async def list(self, call: Call, prefix: str, asked: Mapping[str, str]) -> bytes:
        """A page of the caller's own, newest first."""
        state, limit, after = asked.get("state"), asked.get("limit", "20"), asked.get("after")
        if state is not None and state not in _STATES:
            raise BadRequest(f"state is one of {', '.join(sorted(_STATES))}.", param="state")
        if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and 1 <= int(limit) <= MOST_LISTED):
            raise BadRequest(f"limit is 1 to {MOST_LISTED}.", param="limit")
        most = int(limit)
        found = await self.store.page(call.caller.name, state, after, most + 1)
        data = [await self._row(job, prefix) for job in found[:most]]
        return encoded({"object": "list", "data": data, "next": data[-1]["id"] if len(found) > most else None})

    # --- for whoever administers --------------------------------------------------------------------------------------

    async def every(
        self, caller: str | None, state: str | None, after: str | None, limit: int
    ) -> Sequence[dict[str, Any]]:
        """Jobs of all callers, or of one, newest first."""
        return [await self._any_row(job) for job in await self.store.page(caller, state, after, limit)]

    async def find_any(self, id: str) -> dict[str, Any]:
        """One of any caller."""
        return await self._any_row(await self._any(id))

    async def cancel_any(self, id: str) -> dict[str, Any]:
        """Stop one of any caller, wherever it runs; one that has ended stays as it is."""
        return await self._any_row(await self._cancelled(await self._any(id)))

    async def _any(self, id: str) -> Job:
        job = await self.store.get(id)
        if job is None:
            raise Refusal(404, "job_not_found", "There is no such job.")
        if job.state == "removed":
            raise Refusal(410, "job_gone", "The job was kept for its time, and dropped.")
        return job

    async def _any_row(self, job: Job) -> dict[str, Any]:
        """As its caller sees it, but for the links, which are its caller's; and who that is."""
        row = await self._row(job, "")
        del row["links"]
        return {**row, "caller": job.caller, "route": job.route, "call": job.call_id}

    # --- shared -------------------------------------------------------------------------------------------------------

    async def body(self, job: Job, prefix: str) -> bytes:
        """The job as JSON."""
        return encoded(await self._row(job, prefix))

    async def _row(self, job: Job, prefix: str) -> dict[str, Any]:
        run = self._worker.run_of(job.id) if job.state == "running" else None
        now = run.spent() if run is not None and run.job.generation == job.generation else None
        return shown(job, await self.store.runs(job.id), now, prefix)

    async def name_chat(self, call: Call, chat: str, job: Job) -> None:
        """The chat's present reply is this job's, for whoever loads its page anew."""
        await self.store.add_ticket(_chat(call, chat), job.id, job.give_up_at)

    async def of_chat(self, call: Call, chat: str) -> Job | None:
        """What the caller's chat is being answered; `None` where nothing runs."""
        id = await self.store.named(_chat(call, chat), stamp(self._clock.now()))
        job = None if id is None else await self.store.get(id)
        return None if job is None or job.ended or job.caller != call.caller.name else job

    async def ticket(self, call: Call, prefix: str) -> bytes:
        """What opens the events of this one job for a while, where no header can be sent."""
        job = await self.find(call)
        ticket = secrets.token_urlsafe(24)
        until = self._clock.now() + timedelta(seconds=self.settings.ticket_seconds)
        await self.store.add_ticket(_digest(ticket), job.id, stamp(until))
        path = f"{prefix}/v1/jobs/{job.id}/events?ticket={ticket}"
        return encoded({"ticket": ticket, "expires_at": stamp(until), "events": path})

    async def holder(self, ticket: str, id: str) -> tuple[Caller, str | None]:
        """Whom a ticket stands for. Raises `Refusal` 401 where it opens nothing here."""
        valid = len(ticket) <= 64 and await self.store.has_ticket(_digest(ticket), id, stamp(self._clock.now()))
        found = await self.store.submission(id) if valid else None
        if found is None or not found[0]:
            raise Refusal(401, "invalid_ticket", "The ticket is not valid here, or not any more.")
        submission = read_submission(found[0])
        return submission.caller or ANONYMOUS, submission.end_user


Verb = Literal["list", "get", "result", "ticket", "cancel"]


def _what(call: Call, wanted: Wanted) -> tuple[str, ...]:
    """What was asked: a request that has another digest is another request."""
    body = sha256(call.asked.body).hexdigest()
    return (wanted.operation, wanted.dialect, wanted.route, call.model, str(wanted.streams), str(wanted.array), body)


def _chat(call: Call, chat: str) -> str:
    return _digest("chat", call.caller.name, call.end_user or "", chat)


def _digest(*words: str) -> str:
    digest = sha256()
    for word in words:
        data = word.encode("utf-8", "surrogatepass")
        digest.update(b"%d\n" % len(data))
        digest.update(data)
    return digest.hexdigest()
