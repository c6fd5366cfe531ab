"""Run: a job that is a call now. It passes the pipeline as its client's call would have, and ends in the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial

from msgspec.structs import replace

from sidegate.contract.call import Asked, Call
from sidegate.contract.caller import ANONYMOUS, Caller
from sidegate.contract.host import Clock
from sidegate.contract.meaning import Request
from sidegate.contract.reply import Reply
from sidegate.contract.spending import spent
from sidegate.contract.timeouts import Patience
from sidegate.errors import Cancelled, Ending, GatewayStopping, Refusal, SidegateError
from sidegate.jobs.job import Batch, Claimed, Failure, Outcome, Spent, State, read_submission
from sidegate.jobs.sink import JobSink
from sidegate.live import LiveCall
from sidegate.outlet import BufferOutlet, StreamOutlet, named
from sidegate.settings import Route, Server
from sidegate.wire.body import check_duplicates, read_fields
from sidegate.wire.dialect import Dialect, Envelope, Fields
from sidegate.wire.header_fields import sound
from sidegate.wire.ui.dialect import CHAT, COMPLETION, UIMessages
from sidegate.wire.ui.history import continued
from sidegate.wire.unsaid import unsaid

UI = (CHAT, COMPLETION)
"""Dialects whose replies hang on what the request says was said before."""


class JobExpired(SidegateError):
    """The job's time to live was over while it ran."""

    status = 504
    code = "job_expired"
    ending = Ending.TIMED_OUT

    def __init__(self) -> None:
        super().__init__("The job took longer than it may.")


class TakenOver(SidegateError):
    """Another gateway runs the job: this one was taken for dead, or could not write for too long."""

    status = 503
    code = "job_taken_over"
    ending = Ending.CANCELLED

    def __init__(self) -> None:
        super().__init__("The job runs elsewhere now.")


class Run:
    """One generation of one job, here."""

    def __init__(
        self, job: Claimed, dialect: Dialect, route: Route, server: Server, clock: Clock, sink: JobSink
    ) -> None:
        self.job = job
        self.sink = sink
        self.give_up_at = datetime.fromisoformat(job.give_up_at)
        self.live: LiveCall | None = None
        self._dialect = dialect
        self._clock = clock
        asked, who, self._watched = _asked(job, dialect)
        now = clock.now()
        self.outlet = _outlet(job, asked, dialect, clock, now, sink)
        self.call = Call(
            id=job.call_id,
            operation=dialect.operation,
            dialect=dialect.name,
            model=job.model,
            delivery="job",
            outlet=self.outlet,
            started=clock.monotonic(),
            started_at=now,
            asked=asked,
            route=route.name,
            hold_limit=server.max_held_bytes,
            edit_timeout=server.plugin_timeout,
        )
        self.outlet.notes = self.call.notes
        self.call.streams = job.streams
        self.call.caller, self.call.end_user = who
        self.call.subject = job.id
        if route.timeouts is not None or asked.timeouts is not None:
            self.call.patience = Patience(route.timeouts, asked.timeouts, server.client_timeouts)

    @property
    def runs(self) -> bool:
        return self.live is not None and not self.live.done.done()

    def stop(self, why: SidegateError) -> None:
        if self.live is not None:
            self.live.stop(why)

    def batch(self) -> Batch:
        """What has come since the last one, and what was used by now."""
        first, last, data = self.sink.take()
        return Batch(
            job=self.job.id,
            generation=self.job.generation,
            first=first,
            last=last,
            data=data,
            spent=self.spent(),
        )

    def spent(self) -> Spent:
        """Tokens and cost so far: estimates, until the call has ended."""
        call = self.call
        usages = [spent(attempt, call.operation) for attempt in call.attempts]
        return Spent(
            _sum(usage.input_tokens for usage in usages),
            _sum(usage.output_tokens for usage in usages),
            any(usage.estimated for usage in usages),
            self._cost(),
        )

    def _cost(self) -> int | None:
        call, price = self.call, self.call.notes.price
        costs: list[int | None] = []
        for attempt in call.attempts:
            if attempt.cost is not None or price is None:
                costs.append(attempt.cost)
                continue
            try:
                costs.append(price(replace(attempt, usage=spent(attempt, call.operation), tags={})))
            except Exception:  # a plugin's, and told where the call is settled
                costs.append(None)
        return _sum(costs)

    # --- how it ended -------------------------------------------------------------------------------------------------

    def deferred(self, reply: Reply, now: datetime) -> float | None:
        """Seconds after which it is worth another try: a limit had no room, and nothing has been spent."""
        error = reply.error
        if not isinstance(error, Refusal) or error.retry_after is None or self.begun or self.call.notes.stop:
            return None
        if self._watched:
            return None
        wait = max(1.0, error.retry_after)
        # Who would wait in vain is told at once.
        return wait if wait < (self.give_up_at - now).total_seconds() else None

    @property
    def drained(self) -> bool:
        """The gateway stops: somebody else is to run it, or this one when it is back."""
        return isinstance(self.call.notes.stop, GatewayStopping)

    @property
    def begun(self) -> bool:
        return bool(self.call.attempts) or self.sink.last > 0

    def end(self, reply: Reply) -> tuple[Batch, Outcome]:
        """How it ended for good, and the last it said. Asked for once."""
        outcome = self._outcome(reply)
        return self.batch(), outcome

    def _outcome(self, reply: Reply) -> Outcome:
        error = reply.error
        if error is None and isinstance(self.outlet, BufferOutlet):
            try:
                self.sink.add_body(self.outlet.body() or b"{}")
            except Refusal as refusal:
                error = refusal
        if error is not None:
            event = self._dialect.write_error_event(error, self.call.id)
            self.sink.add_last(self.outlet.failure(event) if isinstance(self.outlet, StreamOutlet) else event)
        return Outcome(
            state=_state(error),
            status=200 if error is None else error.status,
            ending=reply.ending.value if error is reply.error or error is None else error.ending.value,
            spent=self.spent(),
            headers=sound(self.call.reply_headers),
            error=None if error is None else Failure.of(error),
        )


def _state(error: SidegateError | None) -> State:
    if error is None:
        return "completed"
    if isinstance(error, JobExpired):
        return "expired"
    return "cancelled" if isinstance(error, Cancelled) and error.ending is Ending.CANCELLED else "failed"


def _asked(job: Claimed, dialect: Dialect) -> tuple[Asked, tuple[Caller, str | None], bool]:
    submission = read_submission(job.submission)
    fields: Fields = read_fields(job.body)
    if submission.placed is not None:
        model, stream = submission.placed
        fields = dialect.place(fields, model=model, stream=stream)

    def read() -> Request:
        check_duplicates(job.body)
        return dialect.read_request(fields)

    asked = Asked(
        headers=_Headers(submission.headers),
        body=job.body,
        fields=fields,
        wants_usage=submission.wants_usage,
        timeouts=submission.timeouts,
        read=read,
        unsaid=partial(unsaid, dialect.name, fields),
    )
    return asked, (submission.caller or ANONYMOUS, submission.end_user), submission.watched


class _Headers(Mapping[str, str]):
    """By name, in any case: as a request's."""

    def __init__(self, kept: Mapping[str, str]) -> None:
        self._kept = kept

    def __getitem__(self, name: str) -> str:
        return self._kept[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def _outlet(
    job: Claimed, asked: Asked, dialect: Dialect, clock: Clock, now: datetime, sink: JobSink
) -> StreamOutlet | BufferOutlet:
    encoding = asked.fields.get("encoding_format")
    envelope = Envelope(
        id=job.call_id,
        model=job.model,
        created=int(now.timestamp()),
        include_usage=asked.wants_usage,
        encoding_format="base64" if encoding is not None and bytes(encoding) == b'"base64"' else None,
    )
    if dialect.name in UI:
        dialect = UIMessages(continued(asked.fields))
    if job.streams:
        return StreamOutlet(dialect, envelope, sink, clock)
    return BufferOutlet(job.dialect, lambda naming: dialect.assembler(named(envelope, naming)), clock)


def _sum(values: Iterable[int | None]) -> int | None:
    """`None` where one of them is unknown."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total
