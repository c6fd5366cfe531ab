"""SQL: jobs in the ledger's database, SQLite's or PostgreSQL's, by the same statements.

One thread writes and one reads: the event loop waits for neither, and who looks at jobs does not wait behind who runs
them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from sidegate.errors import Refusal
from sidegate.jobs import sql_ask, sql_tend, sql_work
from sidegate.jobs.frames import Position
from sidegate.jobs.job import Batch, Claimed, Head, Job, NewJob, Outcome, Run
from sidegate.jobs.store import Bounds, Buried, Owner
from sidegate.ledger.database import Database, Deadlock, Lost, StoreError, Unfit

T = TypeVar("T")

_logger = logging.getLogger("sidegate.jobs")

TRIES = 3
"""Of what was given up by the store for no fault of ours."""


class _Line:
    """A database with its one thread."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, name)

    async def run(self, work: Callable[[Database], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._tried, work)
        except Unfit:
            # No store takes it, however often it is tried.
            raise
        except StoreError as error:
            _logger.error("jobs: %s", error)
            raise unavailable() from error

    def _tried(self, work: Callable[[Database], T]) -> T:
        for _ in range(TRIES - 1):
            try:
                return work(self._database)
            except (Deadlock, Lost):
                continue
        return work(self._database)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown(wait=False)


def unavailable() -> Refusal:
    return Refusal(503, "jobs_unavailable", "The store of jobs does not answer.", retry_after=2)


class SqlJobs:
    """A `JobStore`. Nothing is opened before it is used."""

    def __init__(self, writing: Database, reading: Database) -> None:
        self._writing = _Line(writing, "jobs-writer")
        self._reading = _Line(reading, "jobs-reader")

    # --- for clients --------------------------------------------------------------------------------------------------

    async def submit(self, job: NewJob, most_queued: int) -> Job:
        return await self._writing.run(partial(sql_ask.submit, job=job, most_queued=most_queued))

    async def get(self, id: str) -> Job | None:
        return await self._reading.run(partial(sql_ask.get, id=id))

    async def runs(self, id: str) -> list[Run]:
        return await self._reading.run(partial(sql_ask.runs, id=id))

    async def page(self, caller: str | None, state: str | None, after: str | None, limit: int) -> list[Job]:
        return await self._reading.run(partial(sql_ask.page, caller=caller, state=state, after=after, limit=limit))

    async def cancel(self, id: str, now: str, keep_until: str) -> Job | None:
        return await self._writing.run(partial(sql_ask.cancel, id=id, now=now, keep_until=keep_until))

    async def events(self, id: str, since: Position, limit: int) -> list[tuple[int, bytes]]:
        return await self._reading.run(partial(sql_ask.events, id=id, since=since, limit=limit))

    async def submission(self, id: str) -> tuple[bytes, bytes] | None:
        return await self._reading.run(partial(sql_ask.submission, id=id))

    async def heads(self, ids: Collection[str]) -> dict[str, Head]:
        return await self._reading.run(partial(sql_ask.heads, ids=ids))

    async def add_ticket(self, digest: str, id: str, until: str) -> None:
        await self._writing.run(partial(sql_ask.add_ticket, digest=digest, id=id, until=until))

    async def has_ticket(self, digest: str, id: str, now: str) -> bool:
        return await self._reading.run(partial(sql_ask.has_ticket, digest=digest, id=id, now=now))

    async def named(self, digest: str, now: str) -> str | None:
        return await self._reading.run(partial(sql_ask.named, digest=digest, now=now))

    # --- for the worker -----------------------------------------------------------------------------------------------

    async def waiting(self, now: str) -> bool:
        return await self._reading.run(partial(sql_work.waiting, now=now))

    async def claim(self, owner: Owner, room: int, bounds: Bounds, now: str) -> list[Claimed]:
        return await self._writing.run(partial(sql_work.claim, owner=owner, room=room, bounds=bounds, now=now))

    async def save(self, owner: str, batches: Sequence[Batch]) -> set[tuple[str, int]]:
        return await self._writing.run(partial(sql_work.save, owner=owner, batches=batches))

    async def finish(
        self, owner: str, ends: Sequence[tuple[Batch, Outcome]], now: str, keep_until: str
    ) -> set[tuple[str, int]]:
        work = partial(sql_work.finish, owner=owner, ends=ends, now=now, keep_until=keep_until)
        return await self._writing.run(work)

    async def put_back(
        self,
        owner: str,
        job: Claimed,
        ending: str,
        run_after: str,
        now: str,
        keep_until: str,
        *,
        cost: int | None,
        undone: bool,
    ) -> bool:
        work = partial(
            sql_work.put_back,
            owner=owner,
            job=job,
            ending=ending,
            run_after=run_after,
            now=now,
            keep_until=keep_until,
            cost=cost,
            undone=undone,
        )
        return await self._writing.run(work)

    async def cancelling(self, owner: str) -> list[str]:
        return await self._reading.run(partial(sql_work.cancelling, owner=owner))

    # --- for all ------------------------------------------------------------------------------------------------------

    async def beat(self, owner: Owner) -> None:
        await self._writing.run(partial(sql_tend.beat, owner=owner))

    async def owners(self, but: str) -> list[tuple[str, str | None, int | None, int | None]]:
        return await self._reading.run(partial(sql_tend.owners, but=but))

    async def bury(self, owners: Sequence[str], most_kills: int, now: str, keep_until: str) -> Buried:
        work = partial(sql_tend.bury, owners=owners, most_kills=most_kills, now=now, keep_until=keep_until)
        return await self._writing.run(work)

    async def expire(self, now: str, keep_until: str) -> int:
        return await self._writing.run(partial(sql_tend.expire, now=now, keep_until=keep_until))

    async def remove(self, now: str, forget_at: str) -> int:
        return await self._writing.run(partial(sql_tend.remove, now=now, forget_at=forget_at))

    async def count(self) -> dict[str, int]:
        return await self._reading.run(sql_tend.count)

    async def leave(self, owner: str) -> None:
        await self._writing.run(partial(sql_tend.leave, owner=owner))

    async def close(self) -> None:
        await self._writing.close()
        await self._reading.close()
