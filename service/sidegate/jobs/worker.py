"""Worker: takes jobs as there is room, runs them as calls, and makes what they say durable, in batches for all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias, TypeVar

from sidegate.contract.host import Clock
from sidegate.contract.reply import Reply
from sidegate.errors import Cancelled, Ending, SidegateError
from sidegate.jobs.job import Batch, Claimed, Failure, Outcome, Spent
from sidegate.jobs.run import JobExpired, Run, TakenOver
from sidegate.jobs.serving import Serving
from sidegate.jobs.sink import JobSink
from sidegate.jobs.store import Bounds, JobStore, Owner
from sidegate.jobs.watch import Watch
from sidegate.ledger.rows import stamp
from sidegate.live import Live
from sidegate.settings import Jobs
from sidegate.wire.registry import DIALECTS

POLL_SECONDS = 0.5
"""Between two looks for jobs that other gateways have accepted, or that are to be stopped."""
RETRY_SECONDS = 0.5
"""Between two tries to write what could not be written."""

STOP_SECONDS = 10.0
"""How long a gateway that stops tries to write how its last jobs ended."""

T = TypeVar("T")
End: TypeAlias = Callable[[], tuple[Batch, Outcome]]
"""How a job has ended, asked for when it is written: all it has said is in it."""

_logger = logging.getLogger("sidegate.jobs")


class Worker:
    """Runs jobs while the gateway lives, and gives back on its way out what it cannot finish."""

    def __init__(
        self,
        bounds: Jobs,
        store: JobStore,
        live: Live,
        clock: Clock,
        owner: Owner,
        watch: Watch,
        serving: Callable[[], Serving],
        settled: Callable[[], Awaitable[None]],
    ) -> None:
        """`serving` gives the config in force: a job that is begun is run by it to its end; `settled` returns when
        what has ended is in the ledger."""
        self._settings = bounds
        self._bounds = Bounds(per_caller=bounds.per_caller, per_model=bounds.per_model)
        self._store = store
        self._live = live
        self._clock = clock
        self._owner = owner
        self._watch = watch
        self._serving = serving
        self._settled = settled
        self._runs: dict[tuple[str, int], Run] = {}
        """By job and generation: one that was lost may have come back before it has ended here."""
        self._ending: set[asyncio.Task[None]] = set()
        self._work = asyncio.Event()
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._ends: list[tuple[End, asyncio.Future[None]]] = []
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self.taken = 0
        """Jobs that were begun here."""

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, id: str) -> bool:
        return self.run_of(id) is not None

    def run_of(self, id: str) -> Run | None:
        """The latest."""
        return next((run for run in reversed(self._runs.values()) if run.job.id == id), None)

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._take(), name="jobs take"),
            loop.create_task(self._write(), name="jobs write"),
            loop.create_task(self._obey(), name="jobs obey"),
        ]

    async def stop(self) -> None:
        """After the drain: all calls have ended; what they came to is written."""
        self._stopping = True
        self._work.set()
        if self._tasks:
            # Not while it takes some: they would be nobody's.
            await asyncio.wait(self._tasks[:1])
        if self._ending:
            await asyncio.wait(self._ending, timeout=STOP_SECONDS)
        for task in (*self._tasks, *self._ending):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def wake(self) -> None:
        """A job was accepted, or there is room for one."""
        self._work.set()

    def cancel(self, id: str) -> None:
        """Stop it where it runs here."""
        if (run := self.run_of(id)) is not None:
            run.stop(Cancelled(Ending.CANCELLED))

    # --- taking -------------------------------------------------------------------------------------------------------

    async def _take(self) -> None:
        while not self._stopping:
            try:
                while await self._some():
                    pass
            except SidegateError:
                await asyncio.sleep(RETRY_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._work.wait()
            self._work.clear()

    async def _some(self) -> bool:
        """Begin what there is room for. Gives whether there may be more."""
        room = self._settings.concurrency - len(self._runs)
        now = stamp(self._clock.now())
        if room <= 0 or self._stopping or self._live.draining or not await self._store.waiting(now):
            return False
        claimed = await self._store.claim(self._owner, room, self._bounds, now)
        for job in claimed:
            self._begin(job)
        return len(claimed) == room

    def _begin(self, job: Claimed) -> None:
        self.taken += 1
        try:
            serving = self._serving()
            route = next((each for each in serving.settings.routes if each.name == job.route), None)
            if route is None:
                raise KeyError(job.route)
            dialect = DIALECTS[job.dialect]
            sink = JobSink(job.generation, self._settings.max_result_bytes, self._news.set)
            run = Run(job, dialect, route, serving.settings.server, self._clock, sink)
            handler = serving.known(route.pipeline)
        except (KeyError, SidegateError) as error:
            self._later(self._unfit(job, error))
            return
        try:
            run.live = self._live.start(run.call, handler, run.outlet, "continue")
        except SidegateError:
            self._later(self._back(job, "", 1.0, undone=True))
            return
        self._runs[job.id, job.generation] = run
        run.live.done.add_done_callback(lambda _: self._later(self._ended(run)))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    # --- ending -------------------------------------------------------------------------------------------------------

    async def _ended(self, run: Run) -> None:
        assert run.live is not None
        reply = run.live.reply
        assert reply is not None
        job = run.job
        try:
            if isinstance(run.call.notes.stop, TakenOver):
                _logger.warning("job %s was taken over by another gateway", job.id)
            elif run.drained:
                await self._back(job, reply.ending.value, 0.0, undone=not run.begun)
            elif (seconds := run.deferred(reply, self._clock.now())) is not None:
                await self._back(job, reply.ending.value, seconds, undone=True)
            else:
                await self._finish(run, reply)
        finally:
            del self._runs[job.id, job.generation]
            self._watch.told(job.id)
            self.wake()

    async def _finish(self, run: Run, reply: Reply) -> None:
        # What it cost is on record before it is said that it has ended.
        with suppress(SidegateError):
            await self._settled()
        await self._written(partial(run.end, reply))

    async def _unfit(self, job: Claimed, error: Exception) -> None:
        """It cannot run here at all: its route is gone, or what was kept cannot be read."""
        said = error if isinstance(error, SidegateError) else None
        failure = Failure.of(said or SidegateError("The job's route is not served any more.", code="route_gone"))
        outcome = Outcome(
            state="failed", status=failure.status, ending="failed", spent=Spent(), headers={}, error=failure
        )
        batch = Batch(job=job.id, generation=job.generation, first=1, last=0, data=b"", spent=Spent())
        await self._written(lambda: (batch, outcome))
        self._watch.told(job.id)

    async def _written(self, end: End) -> None:
        """Returns when it is durable, or the job is somebody else's."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends.append((end, done))
        self._news.set()
        self._hurry.set()
        await done

    async def _back(self, job: Claimed, ending: str, seconds: float, *, undone: bool) -> None:
        now = self._clock.now()
        run_after = stamp(now + timedelta(seconds=seconds))
        back = partial(self._store.put_back, self._owner.id, job, ending, run_after, stamp(now), undone=undone)
        await _sure(back)

    # --- while they run -----------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        """What all runs have said since, and which have ended: one after the other, so that an end comes last."""
        while True:
            await self._news.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.batch_seconds):
                    await self._hurry.wait()
            self._news.clear()
            self._hurry.clear()
            batches = [batch for run in self._runs.values() if run.runs and (batch := run.batch()).data]
            if batches:
                for lost in await _sure(partial(self._store.save, self._owner.id, batches)):
                    if (run := self._runs.get(lost)) is not None:
                        run.stop(TakenOver())
            for batch in batches:
                self._watch.told(batch.job)
            await self._write_ends()

    async def _write_ends(self) -> None:
        waiting, self._ends = self._ends, []
        if not waiting:
            return
        now = self._clock.now()
        keep_until = stamp(now + timedelta(seconds=self._settings.keep))
        ends = [end() for end, _ in waiting]
        for id, _ in await _sure(partial(self._store.finish, self._owner.id, ends, stamp(now), keep_until)):
            _logger.warning("job %s was taken over by another gateway", id)
        for _, done in waiting:
            if not done.done():
                done.set_result(None)

    async def _obey(self) -> None:
        """Stop what is to be stopped, whoever was asked; and what takes too long."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if not self._runs:
                continue
            with suppress(SidegateError):
                for id in await self._store.cancelling(self._owner.id):
                    self.cancel(id)
            now = self._clock.now()
            for run in tuple(self._runs.values()):
                if run.give_up_at <= now:
                    run.stop(JobExpired())


async def _sure(work: Callable[[], Awaitable[T]]) -> T:
    """Until the store has answered: all of it can be done twice."""
    while True:
        try:
            return await work()
        except SidegateError:
            await asyncio.sleep(RETRY_SECONDS)
