"""kill -9 of a gateway with twenty jobs in flight: none is lost, none told twice, and what was tried is on record."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.testing import Exchange, scripted
from tests.crash.killing import Killable
from tests.jobs.ground import ANN, ASYNC, PATH, Event, body, config, events, text_of
from tests.relaying import DONE, ROLE, STOP, delta
from tests.stores import Store

JOBS = 20
WORDS = 8
HEADERS = {"Authorization": f"Bearer {ANN}"}


class Speaker:
    """Says the marker it is asked for, word by word, and counts who asked."""

    def __init__(self, pause: float = 0.04) -> None:
        self.pause = pause
        self.asked: Counter[str] = Counter()

    async def __call__(self, exchange: Exchange) -> None:
        marker = exchange.json["messages"][0]["content"]
        self.asked[marker] += 1
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE)
        for number in range(WORDS):
            await asyncio.sleep(self.pause)
            await exchange.chunk(delta(content=f"{marker}.{number} "))
        await exchange.chunk(STOP + DONE)
        await exchange.chunk(b"")


def text(marker: str) -> str:
    return "".join(f"{marker}.{number} " for number in range(WORDS))


class Reader:
    """Follows one job as a browser does: it comes back with the last id, to whichever gateway there is."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.seen: list[Event] = []
        self.resets = 0
        self.end: dict[str, Any] | None = None

    async def follow(self, urls: list[str]) -> None:
        while self.end is None:
            for url in tuple(urls):
                with suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
                    await self._read(url)
            await asyncio.sleep(0.05)

    async def _read(self, url: str) -> None:
        last = {"Last-Event-ID": self.seen[-1].id} if self.seen else {}
        async with aiohttp.ClientSession(url, headers={**HEADERS, **last}) as client:
            async with client.get(f"/v1/jobs/{self.id}/events") as reply:
                rest = ""
                while data := await reply.content.readany():
                    whole, mark, rest = (rest + data.decode()).rpartition("\n\n")
                    for event in events(whole) if mark else ():
                        self._take(event)

    def _take(self, event: Event) -> None:
        if event.kind == "reset":
            self.resets += 1
            self.seen = [event]
            return
        assert self.end is None, "something came after the end"
        if self.seen:
            assert position(self.seen[-1]) < position(event), "an event came twice, or of another run"
            assert position(self.seen[-1])[0] == position(event)[0], "two runs were mixed"
        self.seen.append(event)
        if event.kind == "end":
            self.end = msgspec.json.decode(event.data)


def position(event: Event) -> tuple[int, int]:
    generation, number = event.id.split("-")
    return int(generation), int(number)


def a_config(url: str, **jobs: Any) -> dict[str, Any]:
    made = config(url, **{"concurrency": 50, "batch_seconds": 0.02, "lease": 2, "max_kills": 20, **jobs})
    return {**made, "ledger": {"batch_seconds": 0.05}}


async def submit(url: str, markers: list[str]) -> dict[str, str]:
    """By marker: the ids of those that were accepted."""
    accepted: dict[str, str] = {}

    async def one(client: aiohttp.ClientSession, marker: str) -> None:
        with suppress(aiohttp.ClientError, ConnectionError):
            async with client.post(PATH, json=body(content=marker), headers=ASYNC) as reply:
                assert reply.status == 202, await reply.text()
                accepted[marker] = reply.headers["Location"][-32:]

    async with aiohttp.ClientSession(url, headers=HEADERS) as client:
        await asyncio.gather(*(one(client, marker) for marker in markers))
    return accepted


async def all_ended(readers: list[Reader], urls: list[str]) -> None:
    async with asyncio.timeout(60):
        await asyncio.gather(*(reader.follow(urls) for reader in readers))


async def round_of(tmp_path: Path, store: Store, seed: int) -> float | None:
    """One kill, at any time. SQLite: the gateway is started again. PostgreSQL: another replica runs all the time.

    Gives how long after the kill the first job was taken over.
    """
    random = Random(seed)
    speaker = Speaker()
    async with scripted(speaker) as provider:
        gateway = Killable(tmp_path, a_config(provider.url), store)
        other = Killable(tmp_path, a_config(provider.url), store)
        await gateway.start()
        urls = [gateway.url]
        if store.kind == "postgresql":
            await other.start()
            urls.append(other.url)
        loop = asyncio.get_running_loop()
        killed: list[str] = []

        def kill() -> None:
            gateway.kill()
            killed.append(datetime.now(UTC).isoformat(timespec="microseconds"))

        markers = [f"s{seed}m{number}" for number in range(JOBS)]
        # With all of them in flight; of three rounds in one, while they are being accepted.
        early = loop.call_later(random.uniform(0.02, 0.2), kill) if seed % 3 == 2 else None
        accepted = await submit(gateway.url, markers)
        timer = early or loop.call_later(random.uniform(0, 0.3), kill)
        readers = [Reader(id) for id in accepted.values()]
        reading = asyncio.create_task(all_ended(readers, urls))
        await gateway.gone()
        timer.cancel()
        if store.kind == "sqlite":
            await other.start()
            urls[:] = [other.url]
        await reading
        await none_is_open(store)
        await none_runs(store)
        await other.stop()
    adds_up(store, speaker, accepted, readers)
    later = store.rows("SELECT min(started_at) FROM job_runs WHERE generation > 1 AND started_at > ?", killed[0])[0][0]
    if later is None:
        return None
    return (datetime.fromisoformat(later) - datetime.fromisoformat(killed[0])).total_seconds()


async def none_is_open(store: Store) -> None:
    """Returns when nothing is `reserved` any more: what the killed gateway left was found."""
    async with asyncio.timeout(60):
        while store.rows("SELECT 1 FROM calls WHERE state = 'reserved'"):  # noqa: ASYNC110  # another process's doing
            await asyncio.sleep(0.1)


async def none_runs(store: Store) -> None:
    async with asyncio.timeout(60):
        while store.rows("SELECT 1 FROM jobs WHERE state IN ('queued', 'running')"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def adds_up(store: Store, speaker: Speaker, accepted: dict[str, str], readers: list[Reader]) -> None:
    by_id = {reader.id: reader for reader in readers}
    jobs: dict[str, str] = {row[0]: row[1] for row in store.rows("SELECT id, state FROM jobs")}
    assert set(accepted.values()) <= jobs.keys(), "a job that was accepted is lost"
    assert set(jobs.values()) <= {"completed"}
    for marker, id in accepted.items():
        reader = by_id[id]
        assert text_of(reader.seen) == text(marker), "the text is not whole"
        assert reader.end is not None
        assert reader.end["state"] == "completed"
    runs = store.rows("SELECT job_id, generation, call_id, ending, cost_nano_usd FROM job_runs")
    assert Counter(row[0] for row in runs if row[3] == "complete") == Counter(jobs.keys()), "delivered once"
    calls = {row[0]: row[1:] for row in store.rows("SELECT id, state, cost_nano_usd FROM calls WHERE delivery = 'job'")}
    assert calls.keys() <= {row[2] for row in runs}, "a call is on record that is no run"
    for id, _, call, ending, cost in runs:
        if ending == "complete":
            assert calls[call] == ("settled", cost), "what it cost is what is on record, once"
        else:
            assert (ending, cost) == ("gateway_killed", None)
            assert call not in calls or calls[call][0] in ("unknown", "settled"), id
    tried = Counter(row[0] for row in runs)
    for marker, id in accepted.items():
        assert 1 <= speaker.asked[marker] <= tried[id], "the provider was asked more often than is on record"


@pytest.mark.parametrize("seed", range(3))
async def test_a_killed_gateway_loses_no_job_and_doubles_none(tmp_path: Path, store: Store, seed: int) -> None:
    await round_of(tmp_path, store, seed)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_thirty_killed_gateways_lose_no_job_and_double_none(tmp_path: Path, store: Store) -> None:
    took = []
    for seed in range(100, 130):
        store.execute("DELETE FROM jobs")
        store.execute("DELETE FROM job_runs")
        store.execute("DELETE FROM calls")
        took.append(await round_of(tmp_path, store, seed))
    known = sorted(one for one in took if one is not None)
    print(f"{store.kind}: taken over after {known[0]:.2f} to {known[-1]:.2f} s, median {known[len(known) // 2]:.2f} s")  # noqa: T201
    assert len(known) > 10, "most rounds killed a gateway in the middle"


async def test_a_gateway_that_stood_still_writes_nothing_more_of_jobs_that_were_taken_over(
    tmp_path: Path, store: Store
) -> None:
    """Another machine cannot see that a process is gone: it is silent, and that for long enough."""
    speaker = Speaker(pause=0.3)
    async with scripted(speaker) as provider:
        slow, other = (Killable(tmp_path, a_config(provider.url), store) for _ in range(2))
        await slow.start()
        accepted = await submit(slow.url, ["a", "b"])
        readers = [Reader(id) for id in accepted.values()]
        await begun(store, 2)
        os.kill(slow.pid, signal.SIGSTOP)
        stopped = datetime.now(UTC)
        await other.start()
        await taken_over(store)
        os.kill(slow.pid, signal.SIGCONT)
        await all_ended(readers, [other.url, slow.url])
        await none_runs(store)
        await slow.stop()
        await other.stop()
    ((first,),) = store.rows("SELECT min(started_at) FROM job_runs WHERE generation = 2")
    assert (datetime.fromisoformat(first) - stopped).total_seconds() > 1, "not before its lease is over"
    for marker, id in accepted.items():
        reader = next(reader for reader in readers if reader.id == id)
        assert text_of(reader.seen) == text(marker)
        assert {position(event)[0] for event in reader.seen} == {2}
        endings = store.rows("SELECT ending FROM job_runs WHERE job_id = ? ORDER BY generation", id)
        assert endings == [("gateway_killed",), ("complete",)]
        assert speaker.asked[marker] == 2
    assert store.rows("SELECT count(*) FROM calls WHERE delivery = 'job'") == [(4,)], "both runs of both are on record"


async def begun(store: Store, count: int) -> None:
    async with asyncio.timeout(20):
        while len(store.rows("SELECT 1 FROM job_events WHERE last > 2")) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def taken_over(store: Store) -> None:
    async with asyncio.timeout(30):
        while len(store.rows("SELECT 1 FROM job_runs WHERE generation = 2")) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_job_that_kills_its_gateways_is_given_up(tmp_path: Path, store: Store) -> None:
    hit = asyncio.Event()

    async def hangs(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="x"))
        hit.set()
        await exchange.closed.wait()

    async with scripted(hangs) as provider:
        gateway = Killable(tmp_path, a_config(provider.url, max_kills=2), store)
        await gateway.start()
        (id,) = (await submit(gateway.url, ["m"])).values()
        for _ in range(2):
            async with asyncio.timeout(30):
                await hit.wait()
            hit.clear()
            gateway.kill()
            await gateway.gone()
            await gateway.start()
        async with aiohttp.ClientSession(gateway.url, headers=HEADERS) as client:
            async with client.get(f"/v1/jobs/{id}?wait=20") as reply:
                found = await reply.json()
            async with client.get(f"/v1/jobs/{id}/events") as reply:
                last = events(await reply.text())[-1]
        await gateway.stop()
    assert (found["state"], found["error"]["code"]) == ("failed", "job_poisoned")
    assert found["cost_nano_usd"] is None
    assert last.kind == "end"
