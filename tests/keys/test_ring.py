"""Keys in memory: what is asked of the store, how soon a change counts, and what holds while the store is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from sidegate.errors import Refusal
from sidegate.keys.asked import Filter
from sidegate.keys.key import Key
from sidegate.keys.ring import BATCH, KeyRing
from sidegate.keys.store import unavailable
from tests.plugins.calls import EPOCH, HandClock, ListLog
from tests.relaying import until

HOUR = timedelta(hours=1)


class Kept:
    """A store in memory that counts what it is asked, and stands still or fails when it is told to."""

    def __init__(self, *keys: Key) -> None:
        self.keys = {key.id: key for key in keys}
        self.asked: list[tuple[str, ...]] = []
        self.polls = 0
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()
        self._moment = EPOCH

    def put(self, key: Key) -> None:
        self._moment += timedelta(microseconds=1)
        self.keys[key.id] = replace(key, changed_at=self._moment)

    async def find(self, digests: Sequence[str]) -> list[Key]:
        self.asked.append(tuple(digests))
        found = [
            key
            for key in self.keys.values()
            if key.revoked_at is None and {key.digest, key.previous_digest} & set(digests)
        ]
        await self.gate.wait()
        if self.down:
            raise unavailable() from ConnectionError("gone")
        return found

    async def changed(self, since: datetime | None) -> tuple[datetime | None, frozenset[str] | None]:
        self.polls += 1
        if self.down:
            raise unavailable()
        new = [key for key in self.keys.values() if since is None or key.changed_at > since]
        latest = max((key.changed_at for key in self.keys.values()), default=since)
        return latest, frozenset(key.id for key in new)

    async def close(self) -> None: ...

    async def add(self, key: Key) -> Key:
        raise NotImplementedError

    async def get(self, id: str) -> Key | None:
        raise NotImplementedError

    async def page(self, filter: Filter, now: datetime) -> list[Key]:
        raise NotImplementedError

    async def update(self, id: str, change: Callable[[Key], Key]) -> Key | None:
        raise NotImplementedError


def a_key(digest: str = "d1", id: str = "key-1", **more: Any) -> Key:
    return Key(id=id, digest=digest, name="ann", created_at=EPOCH, changed_at=EPOCH, **more)


@asynccontextmanager
async def a_ring(kept: Kept, clock: HandClock | None = None, log: ListLog | None = None, **more: Any) -> Any:
    ring = KeyRing(kept, clock or HandClock(), log or ListLog(), **{"refresh": 3600.0, "outage": 600.0, **more})
    try:
        yield ring
    finally:
        await ring.stop()


@pytest.fixture
async def known() -> AsyncIterator[tuple[KeyRing, Kept, HandClock]]:
    kept, clock = Kept(a_key()), HandClock()
    async with a_ring(kept, clock) as ring:
        assert await ring.find("d1") is not None
        yield ring, kept, clock


async def test_a_key_is_asked_for_once_and_then_found_without_waiting(known: tuple[KeyRing, Kept, HandClock]) -> None:
    ring, kept, _ = known
    finding = ring.find("d1")
    with pytest.raises(StopIteration) as found:
        finding.send(None)  # it ends without once giving way
    assert found.value.value.key_id == "key-1"
    assert kept.asked == [("d1",)]


async def test_what_was_changed_here_counts_at_once(known: tuple[KeyRing, Kept, HandClock]) -> None:
    ring, kept, clock = known
    kept.put(a_key(revoked_at=clock.now()))
    assert await ring.find("d1") is not None
    ring.forget("key-1")
    assert await ring.find("d1") is None


async def test_what_another_process_changed_counts_after_the_next_look(
    known: tuple[KeyRing, Kept, HandClock],
) -> None:
    ring, kept, _ = known
    kept.put(a_key(team="red"))
    kept.put(a_key("d2", "key-2"))
    await ring.refresh()
    found = await ring.find("d1")
    assert found is not None
    assert found.team == "red"
    assert await ring.find("d2") is not None


async def test_only_what_changed_is_asked_for_again(known: tuple[KeyRing, Kept, HandClock]) -> None:
    ring, kept, _ = known
    await ring.refresh()
    assert await ring.find("d1") is not None
    kept.asked.clear()
    kept.put(a_key("d2", "key-2"))
    await ring.refresh()
    assert await ring.find("d1") is not None
    assert kept.asked == []


async def test_a_look_that_began_before_a_change_is_not_believed() -> None:
    kept = Kept(a_key())
    async with a_ring(kept) as ring:
        kept.gate.clear()
        finding = asyncio.ensure_future(ring.find("d1"))
        await until(lambda: len(kept.asked) == 1)
        kept.put(a_key(revoked_at=EPOCH))
        ring.forget("key-1")
        kept.gate.set()
        assert await finding is None
        assert len(kept.asked) == 2


async def test_keys_are_looked_for_as_long_as_one_is_in_memory_and_the_ring_runs() -> None:
    kept = Kept(a_key())
    async with a_ring(kept, refresh=0.01) as ring:
        ring.start()
        await asyncio.sleep(0.05)
        assert kept.polls == 0
        assert await ring.find("d1") is not None
        kept.put(a_key(revoked_at=EPOCH))
        async with asyncio.timeout(5):
            while await ring.find("d1") is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


# --- time -------------------------------------------------------------------------------------------------------------


async def test_a_key_ends_when_it_expires_and_its_old_secret_when_its_grace_does() -> None:
    clock = HandClock()
    key = a_key(previous_digest="d0", previous_until=EPOCH + HOUR, expires_at=EPOCH + 2 * HOUR)
    async with a_ring(Kept(key), clock, outage=86_400.0) as ring:
        assert await ring.find("d0") is not None
        assert await ring.find("d1") is not None
        clock.pass_by(3599)
        assert await ring.find("d0") is not None
        clock.pass_by(1)
        assert await ring.find("d0") is None
        assert await ring.find("d1") is not None
        clock.pass_by(3600)
        assert await ring.find("d1") is None


async def test_an_old_secret_does_not_outlive_its_key() -> None:
    clock = HandClock()
    key = a_key(previous_digest="d0", previous_until=EPOCH + 2 * HOUR, expires_at=EPOCH + HOUR)
    async with a_ring(Kept(key), clock, outage=86_400.0) as ring:
        assert await ring.find("d0") is not None
        clock.pass_by(3600)
        assert await ring.find("d0") is None


# --- rubbish ----------------------------------------------------------------------------------------------------------


async def test_a_flood_of_wrong_keys_asks_the_store_in_batches_one_after_the_other() -> None:
    kept = Kept(a_key())
    async with a_ring(kept) as ring:
        wrong = [ring.find(f"wrong-{number}") for number in range(3 * BATCH)]
        answers = await asyncio.gather(*wrong, ring.find("d1"))
        assert answers[:-1] == [None] * (3 * BATCH)
        assert answers[-1] is not None
        assert [len(asked) for asked in kept.asked] == [BATCH, BATCH, BATCH, 1]


async def test_calls_with_the_same_key_ask_once() -> None:
    kept = Kept(a_key())
    async with a_ring(kept) as ring:
        assert all(await asyncio.gather(*(ring.find("d1") for _ in range(100))))
        assert kept.asked == [("d1",)]


async def test_a_wrong_key_is_remembered_for_a_moment_only() -> None:
    kept, clock = Kept(), HandClock()
    async with a_ring(kept, clock) as ring:
        assert await ring.find("d1") is None
        kept.put(a_key())
        assert await ring.find("d1") is None
        assert len(kept.asked) == 1
        clock.pass_by(1.5)
        assert await ring.find("d1") is not None


async def test_memory_holds_the_keys_that_were_used_last() -> None:
    kept = Kept(*(a_key(f"d{number}", f"key-{number}") for number in range(4)))
    async with a_ring(kept, size=3) as ring:
        for digest in ("d0", "d1", "d2", "d0", "d3"):
            await ring.find(digest)
        for number in range(20):
            await ring.find(f"wrong-{number}")
        assert (len(ring._known), len(ring._wrong)) == (3, 3)
        kept.asked.clear()
        assert await ring.find("d0") is not None
        assert kept.asked == []
        assert await ring.find("d1") is not None
        assert kept.asked == [("d1",)]


async def test_more_waiting_than_memory_holds_are_refused() -> None:
    kept = Kept()
    async with a_ring(kept, size=2) as ring:
        kept.gate.clear()
        waiting = [asyncio.ensure_future(ring.find(f"d{number}")) for number in range(2)]
        await until(lambda: bool(kept.asked))
        with pytest.raises(Refusal) as refused:
            await ring.find("d3")
        assert (refused.value.status, refused.value.code) == (503, "key_store_unavailable")
        kept.gate.set()
        assert await asyncio.gather(*waiting) == [None, None]


async def test_who_leaves_takes_nobodys_answer_along() -> None:
    kept = Kept(a_key())
    async with a_ring(kept) as ring:
        kept.gate.clear()
        leaving, staying = (asyncio.ensure_future(ring.find("d1")) for _ in range(2))
        await until(lambda: bool(kept.asked))
        leaving.cancel()
        await asyncio.wait([leaving])
        kept.gate.set()
        assert await staying is not None


# --- a store that is down ---------------------------------------------------------------------------------------------


async def test_while_the_store_is_down_known_keys_go_on_for_a_while_and_others_are_not_called_wrong() -> None:
    kept, clock, log = Kept(a_key()), HandClock(), ListLog()
    async with a_ring(kept, clock, log) as ring:
        assert await ring.find("d1") is not None
        kept.down = True
        with pytest.raises(Refusal) as refused:
            await ring.find("d2")
        assert (refused.value.status, refused.value.code) == (503, "key_store_unavailable")
        clock.pass_by(600)
        await ring.refresh()
        assert await ring.find("d1") is not None
        clock.pass_by(1)
        with pytest.raises(Refusal, match="does not answer"):
            await ring.find("d1")
        kept.down = False
        await ring.refresh()
        assert await ring.find("d1") is not None
        assert [event for event, _ in log.lines] == ["key_store_failing", "key_store_back"]
        assert log.lines[0][1] == {"error": "ConnectionError: gone"}


async def test_a_key_that_comes_when_memory_is_empty_counts_as_checked_then() -> None:
    kept, clock = Kept(a_key()), HandClock()
    async with a_ring(kept, clock) as ring:
        clock.pass_by(10_000)
        assert await ring.find("d1") is not None
        assert await ring.find("d1") is not None


async def test_whoever_waits_when_the_ring_stops_is_refused() -> None:
    kept = Kept(a_key())
    async with a_ring(kept) as ring:
        kept.gate.clear()
        waiting = asyncio.ensure_future(ring.find("d1"))
        await until(lambda: bool(kept.asked))
    with pytest.raises(Refusal):
        await waiting
