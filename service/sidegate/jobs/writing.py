"""Writing: what runs have said and how they ended, made durable in batches for all. One task writes, so that the end of
a job comes after all that it said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TypeAlias, TypeVar

from sidegate.contract.host import Clock
from sidegate.errors import FAULTS, SidegateError
from sidegate.jobs.job import Batch, Claimed, Failure, Outcome, Spent
from sidegate.jobs.run import Run, TakenOver
from sidegate.jobs.store import JobStore
from sidegate.jobs.watch import Watch
from sidegate.ledger.rows import stamp
from sidegate.settings import Jobs

RETRY_SECONDS = 0.5
"""Between two tries to write what could not be written."""

_UNKEPT = "job_unkept"
"""The code of a job whose end no store can take."""

T = TypeVar("T")
Ended: TypeAlias = tuple[Batch, Outcome]
End: TypeAlias = Callable[[], Ended]
"""How a job has ended, asked for when it is written: all it has said is in it."""

_logger = logging.getLogger("sidegate.jobs")


class Writing:
    """Writes for one gateway, of the `runs` it has. What cannot be kept of one job keeps no other from it."""

    def __init__(
        self,
        bounds: Jobs,
        store: JobStore,
        owner: str,
        clock: Clock,
        watch: Watch,
        runs: Mapping[tuple[str, int], Run],
    ) -> None:
        self._settings = bounds
        self._store = store
        self._owner = owner
        self._clock = clock
        self._watch = watch
        self._runs = runs
        self._hurry = asyncio.Event()
        self._ends: list[tuple[Claimed, End, asyncio.Future[None]]] = []
        self.news = asyncio.Event()
        """Set where something has been said."""

    async def run(self) -> None:
        while True:
            await self.news.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.batch_seconds):
                    await self._hurry.wait()
            self.news.clear()
            self._hurry.clear()
            batches = [batch for run in self._runs.values() if run.runs and (batch := run.batch()).data]
            if batches:
                await self._save(batches)
            for batch in batches:
                self._watch.told(batch.job)
            await self._write_ends()

    async def end(self, job: Claimed, end: End) -> None:
        """Returns when it is durable, or the job is somebody else's."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends.append((job, end, done))
        self.news.set()
        self._hurry.set()
        await done

    async def _save(self, batches: Sequence[Batch]) -> None:
        try:
            taken = await surely(partial(self._store.save, self._owner, batches))
        except Exception as error:
            if len(batches) > 1:
                for batch in batches:
                    await self._save([batch])
                return
            _logger.error("job %s: what it said cannot be kept: %s", batches[0].job, error)
            self._stop(batches[0], SidegateError("What the job said could not be kept.", code=_UNKEPT))
            return
        for batch in batches:
            if (batch.job, batch.generation) in taken:
                self._stop(batch, TakenOver())

    def _stop(self, batch: Batch, why: SidegateError) -> None:
        if (run := self._runs.get((batch.job, batch.generation))) is not None:
            run.stop(why)

    async def _write_ends(self) -> None:
        waiting, self._ends = self._ends, []
        if not waiting:
            return
        await self._finish([(job, _told(job, end)) for job, end, _ in waiting])
        for _, _, done in waiting:
            if not done.done():
                done.set_result(None)

    async def _finish(self, ends: Sequence[tuple[Claimed, Ended]]) -> None:
        now = self._clock.now()
        keep_until = stamp(now + timedelta(seconds=self._settings.keep))
        kept = [ended for _, ended in ends]
        try:
            lost = await surely(partial(self._store.finish, self._owner, kept, stamp(now), keep_until))
        except Exception as error:
            await self._finish_each(ends, error)
            return
        for id, _ in lost:
            _logger.warning("job %s was taken over by another gateway", id)

    async def _finish_each(self, ends: Sequence[tuple[Claimed, Ended]], error: Exception) -> None:
        if len(ends) > 1:
            for one in ends:
                await self._finish([one])
            return
        ((job, (_, outcome)),) = ends
        _logger.error("job %s: how it ended cannot be kept: %s", job.id, error)
        if outcome.error is None or outcome.error.code != _UNKEPT:
            unkept = SidegateError("What the job came to could not be kept.", code=_UNKEPT)
            await self._finish([(job, failed(job, unkept))])


def failed(job: Claimed, error: SidegateError) -> Ended:
    """The end of a job with nothing said."""
    failure = Failure.of(error)
    batch = Batch(job=job.id, generation=job.generation, first=1, last=0, data=b"", spent=Spent())
    return batch, Outcome(
        state="failed", status=failure.status, ending="failed", spent=Spent(), headers={}, error=failure
    )


def _told(job: Claimed, end: End) -> Ended:
    """How a run ended; what goes wrong while it is asked for that is how."""
    try:
        return end()
    except FAULTS:
        _logger.exception("job %s: what it came to cannot be told", job.id)
        return failed(job, SidegateError("The gateway failed."))


async def surely(work: Callable[[], Awaitable[T]]) -> T:
    """Until the store has answered: all of it can be done twice."""
    while True:
        try:
            return await work()
        except SidegateError:
            await asyncio.sleep(RETRY_SECONDS)
