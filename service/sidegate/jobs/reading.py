"""Reading: the events of a job as they become durable, for as many readers as there are, each from where it is.

A reader that comes back says what it has seen last. Where the job has begun anew since, it is told `reset` first: what
it has seen is void, and nothing of one run is ever mixed with another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from sidegate.errors import Ending, GatewayStopping, Refusal, SidegateError
from sidegate.jobs import frames
from sidegate.jobs.frames import START, Position
from sidegate.jobs.job import ENDED, Job
from sidegate.jobs.shown import encoded
from sidegate.jobs.store import JobStore
from sidegate.jobs.watch import Watch

MOST_ROWS = 32
"""Batches that are read at a time: a reader holds no more in memory."""


class BegunAnew(SidegateError):
    """The job runs again, and this reader has no word for it: its client may come back for the events."""

    status = 503
    code = "job_begun_anew"
    ending = Ending.CUT

    def __init__(self) -> None:
        super().__init__("The gateway that gave this reply was lost, and another has begun it anew.")


HELLO = b"retry: 1000\n"
"""How soon a browser comes back, in milliseconds. A line of the first event: by itself it is one to some clients."""


class Reading:
    """One reader of one job."""

    def __init__(
        self,
        store: JobStore,
        watch: Watch,
        job: Job,
        seen: Position | None,
        leaves: Callable[[str], bool],
        *,
        plain: bool = False,
    ) -> None:
        """`seen` is `None` for one that has seen something nobody knows: it starts anew. `plain`: nothing is said but
        the reply itself, so a job that begins anew ends the reading with `BegunAnew`."""
        self._store = store
        self._watch = watch
        self._job = job
        self._leaves = leaves
        self._at = seen if seen is not None else START
        self._void = seen is None
        self._plain = plain

    @property
    def over(self) -> bool:
        """There is nothing to come: the reader has seen the end."""
        job = self._job
        return job.ended and self._at == (job.generation, job.last + 1)

    async def pieces(self, last: Callable[[Job], AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
        """Whole events, several at a time; after the end what `last` gives, with its id."""
        if not self._plain:
            yield HELLO
        async with self._watch.following(self._job.id) as news:
            while True:
                news.clear()
                job = await self._store.get(self._job.id)
                if job is None or job.state == "removed":
                    raise Refusal(410, "job_gone", "The job was kept for its time, and dropped.")
                async for piece in self._new(job):
                    yield piece
                if job.ended:
                    async for piece in last(job):
                        yield piece
                    return
                if self._leaves(job.id):
                    if self._plain:
                        raise GatewayStopping()
                    return
                await news.wait()

    async def _new(self, job: Job) -> AsyncIterator[bytes]:
        generation, number = self._at
        begun = job.last > 0 or job.state in ENDED
        if (generation != job.generation or number > job.last or self._void) and begun:
            if self._plain and self._at != START:
                raise BegunAnew()
            if self._at != START or self._void:
                yield frames.event("reset", encoded({"generation": job.generation}), (job.generation, 0))
            self._at, self._void = (job.generation, 0), False
        if self._at[0] != job.generation:
            return
        while self._at[1] < job.last:
            rows = await self._store.events(job.id, self._at, MOST_ROWS)
            if not rows:
                return  # it has begun anew meanwhile, which is seen at the next look
            for first, data in rows:
                fresh = frames.after(data, first, self._at[1])
                self._at = (job.generation, first + data.count(b"\n\n") - 1)
                if fresh:
                    yield fresh
