"""The ledger's file goes wrong: locked by somebody, on a disk that is full, damaged; and clocks that jump."""

from __future__ import annotations

import asyncio
import resource
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sidegate.contract import SystemClock
from tests.crash.killing import Killable
from tests.faults.scene import Scene, a_config, apart, scene
from tests.stores import Store, prepared

LOCKER = """
import sqlite3, sys
file = sqlite3.connect(sys.argv[1], isolation_level=None)
file.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def kept(tmp_path: Path) -> Store:
    return prepared("sqlite", f"sqlite:///{tmp_path}/ledger.db")


def file_of(store: Store) -> str:
    return store.url.removeprefix("sqlite:///")


def damage(path: str, again: bool = True) -> bytes:
    """Overwrite all pages but the first; or only tell what is there."""
    there = Path(path).read_bytes()
    if again:
        there = there[:4096] + b"\xff" * 8192
        Path(path).write_bytes(there)
    return there


@pytest.mark.parametrize("seconds", [0, pytest.param(10, marks=pytest.mark.long)])
async def test_a_file_that_another_process_locks_stops_no_stream(kept: Store, seconds: float) -> None:
    """Until a call has waited for its reservation in vain; or as many seconds more."""
    async with scene(kept) as on:
        await on.hold(4)
        locker = await asyncio.create_subprocess_exec(sys.executable, "-c", LOCKER, file_of(kept), stdin=-1, stdout=-1)
        assert locker.stdout is not None
        assert await locker.stdout.readline() == b"locked\n"
        assert (await on.ask("m-refused")).code == "ledger_unavailable"
        await on.release()
        await asyncio.sleep(seconds)
        await locker.communicate(b"\n")
        await on.well()
        assert (await on.ask("m-after")).whole
        await on.well()
        on.check_books()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets another process's limits")
async def test_a_full_disk_stops_no_stream_and_what_is_billed_is_refused(tmp_path: Path, kept: Store) -> None:
    """By the kernel's limit on the size of the process's files: a write beyond it fails as one to a full disk does."""
    async with apart(tmp_path, kept) as (on, process):
        await on.hold(4)
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, hard))
        assert (await on.ask("m-refused")).code == "ledger_unavailable"
        assert not await on.ready()
        await on.release()
        assert (await on.ask("m-refused-too")).code == "ledger_unavailable"
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        await on.well()
        assert (await on.ask("m-after")).whole
        await on.well()
        on.check_books()


async def test_a_damaged_file_is_refused_at_the_start_in_one_line(tmp_path: Path, kept: Store) -> None:
    damaged = damage(file_of(kept))
    process = Killable(tmp_path, a_config("http://127.0.0.1:9"), kept)
    with pytest.raises(AssertionError, match="the gateway did not start"):
        await process.start()
    (line,) = process.log.splitlines()
    assert line.startswith(b"ledger.url: ")
    assert damage(file_of(kept), again=False) == damaged, "it is left as it is"


class Jumping(SystemClock):
    """The machine's clock, set to another time of day while it runs; monotonic time goes on as it does."""

    def __init__(self) -> None:
        self.jump = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.jump


@pytest.mark.parametrize("days", [1, -1])
async def test_a_clock_that_jumps_a_day_disturbs_no_stream_limit_or_sum(store: Store, days: int) -> None:
    clock = Jumping()
    limit = {"use": "rate_limit", "settings": {"limits": [{"name": "few", "requests": 5, "period": "day", "per": []}]}}
    async with scene(store, limit, clock=clock) as on:
        await on.hold(4)
        clock.jump = timedelta(days=days)
        assert (await on.ask("m-fifth")).whole
        refused = await on.ask("m-sixth")
        assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
        await on.release()
        await on.well()
        check_times(on)
        on.check_books()


def check_times(on: Scene) -> None:
    """Lengths of time are measured, not the difference of two stamps."""
    for duration, first_token in on.store.rows("SELECT duration, first_token FROM calls WHERE status = 200"):
        assert 0 <= first_token <= duration < 60
