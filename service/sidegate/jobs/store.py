"""Store: where jobs are kept and taken from. One protocol for SQLite and PostgreSQL.

What is written can be written twice: a commit whose answer was lost is simply tried again. A run writes only what is
its own: where another gateway has taken its job over, nothing is written, and the run is told that it has lost it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from msgspec import Struct

from sidegate.jobs.frames import Position
from sidegate.jobs.job import Batch, Claimed, Head, Job, NewJob, Outcome, Run


class Bounds(Struct, frozen=True, kw_only=True):
    """How many may run at a time, at all gateways of the store; `None` for any number."""

    per_caller: int | None = None
    per_model: int | None = None


class Buried(Struct, frozen=True, kw_only=True):
    """What became of the jobs of gateways that died."""

    again: tuple[str, ...] = ()
    """They are in the queue again."""
    ended: tuple[str, ...] = ()
    """They have been cancelled meanwhile, or have killed too many."""


class Full(Exception):
    """The caller has as many jobs waiting as it may."""


class JobStore(Protocol):
    """All methods raise a `Refusal` 503 `jobs_unavailable` where the store does not answer."""

    # for clients
    async def submit(self, job: NewJob, most_queued: int) -> Job:
        """Durable when it returns. Where `again` is known, the job that it was for. Raises `Full`."""
        ...

    async def get(self, id: str) -> Job | None: ...
    async def runs(self, id: str) -> list[Run]: ...
    async def page(self, caller: str | None, state: str | None, after: str | None, limit: int) -> list[Job]:
        """A caller's own, newest first; of all callers where it is `None`."""
        ...

    async def cancel(self, id: str, now: str, keep_until: str) -> Job | None:
        """One that waits is cancelled at once; one that runs is marked, for its gateway to stop it."""
        ...

    async def events(self, id: str, since: Position, limit: int) -> list[tuple[int, bytes]]:
        """Frames behind a position, each with the number of its first: no more of them than `limit`, in order."""
        ...

    async def submission(self, id: str) -> tuple[bytes, bytes] | None:
        """What it was accepted with, and the headers of its reply, as JSON."""
        ...

    async def heads(self, ids: Collection[str]) -> dict[str, Head]: ...
    async def add_ticket(self, digest: str, id: str, until: str) -> None: ...
    async def has_ticket(self, digest: str, id: str, now: str) -> bool: ...
    async def named(self, digest: str, now: str) -> str | None:
        """The job that was last put under this digest, by `add_ticket`."""
        ...

    # for the worker
    async def waiting(self, now: str) -> bool:
        """Whether a job waits that may run now."""
        ...

    async def claim(self, owner: Owner, room: int, bounds: Bounds, now: str) -> list[Claimed]:
        """Take as many as there is room for, the most urgent first, then the oldest. Their last events are dropped."""
        ...

    async def save(self, owner: str, batches: Sequence[Batch]) -> set[tuple[str, int]]:
        """Make events durable, in one transaction. Gives those, with their generation, that are no longer this
        owner's."""
        ...

    async def finish(
        self, owner: str, ends: Sequence[tuple[Batch, Outcome]], now: str, keep_until: str
    ) -> set[tuple[str, int]]:
        """The last events and the end of each, together. Gives those, with their generation, that are no longer this
        owner's."""
        ...

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
        """Into the queue again; one that was cancelled meanwhile ends. `cost`: of this run, in nano-USD, null where it
        is unknown. `undone`: it had not begun, so the run does not count."""
        ...

    async def cancelling(self, owner: str) -> list[str]:
        """The jobs of this owner that are to be stopped."""
        ...

    # for all
    async def beat(self, owner: Owner) -> None: ...
    async def owners(self, but: str) -> list[tuple[str, str | None, int | None, int | None]]:
        """The others that have jobs running: id, machine, process, beats."""
        ...

    async def bury(self, owners: Sequence[str], most_kills: int, now: str, keep_until: str) -> Buried: ...
    async def expire(self, now: str, keep_until: str) -> int:
        """Give up what has waited too long. Gives how many."""
        ...

    async def remove(self, now: str, forget_at: str) -> int:
        """Drop what was kept long enough. Gives how many."""
        ...

    async def count(self) -> dict[str, int]:
        """Jobs that wait and that run, by state."""
        ...

    async def leave(self, owner: str) -> None: ...
    async def close(self) -> None: ...


class Owner(Struct, frozen=True):
    """A process that runs jobs, this time: a restart is another."""

    id: str
    host: str
    pid: int
    beats: int = 0
