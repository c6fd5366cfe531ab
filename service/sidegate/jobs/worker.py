"""Worker: takes jobs as there is room, and runs them as calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from sidegate.contract.host import Clock
from sidegate.contract.reply import Reply
from sidegate.errors import Cancelled, Ending, SidegateError
from sidegate.jobs.job import Claimed
from sidegate.jobs.run import JobExpired, Run, TakenOver
from sidegate.jobs.serving import Serving
from sidegate.jobs.sink import JobSink
from sidegate.jobs.store import Bounds, JobStore, Owner
from sidegate.jobs.watch import Watch
from sidegate.jobs.writing import RETRY_SECONDS, Writing, failed, surely
from sidegate.ledger.rows import stamp
from sidegate.live import Live
from sidegate.settings import Jobs
from sidegate.wire.registry import DIALECTS

POLL_SECONDS = 0.5
"""Between two looks for jobs that other gateways have accepted, or that are to be stopped."""

STOP_SECONDS = 10.0
"""How long a gateway that stops tries to write how its last jobs ended."""

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
        self._writing = Writing(bounds, store, owner.id, clock, watch, self._runs)
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
            loop.create_task(self._writing.run(), name="jobs write"),
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
            sink = JobSink(job.generation, self._settings.max_result_bytes, self._writing.news.set)
            run = Run(job, dialect, route, serving.settings.server, self._clock, sink)
            handler = serving.known(route.pipeline)
        except Exception as error:
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
                cost = run.spent().cost_nano_usd if run.begun else 0
                await self._back(job, reply.ending.value, 0.0, cost, undone=not run.begun)
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
        await self._writing.end(run.job, partial(run.end, reply))

    async def _unfit(self, job: Claimed, error: Exception) -> None:
        """It cannot run here at all: its route is gone, or what was kept cannot be read."""
        if isinstance(error, KeyError):
            error = SidegateError("The job's route is not served any more.", code="route_gone")
        elif not isinstance(error, SidegateError):
            _logger.error("job %s cannot be begun: %s", job.id, type(error).__name__)
            error = SidegateError("What was kept of the job cannot be read.")
        await self._writing.end(job, partial(failed, job, error))
        self._watch.told(job.id)

    async def _back(self, job: Claimed, ending: str, seconds: float, cost: int | None = 0, *, undone: bool) -> None:
        now = self._clock.now()
        run_after, keep_until = (stamp(now + timedelta(seconds=after)) for after in (seconds, self._settings.keep))
        place = self._owner.id, job, ending, run_after, stamp(now), keep_until
        await surely(partial(self._store.put_back, *place, cost=cost, undone=undone))

    # --- while they run -----------------------------------------------------------------------------------------------

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
