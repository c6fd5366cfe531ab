"""The store of jobs, by one suite for SQLite and PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from sidegate.jobs.frames import numbered
from sidegate.jobs.job import Batch, Claimed, NewJob, Outcome, Spent
from sidegate.jobs.opening import open_store
from sidegate.jobs.sql import SqlJobs
from sidegate.jobs.store import Bounds, Full, Owner
from tests.stores import Store

BEFORE = "2026-11-22T11:00:00.000000+00:00"
NOW = "2026-11-22T12:00:00.000000+00:00"
LATER = "2026-11-22T13:00:00.000000+00:00"
LAST = "2026-11-23T12:00:00.000000+00:00"
ONE, OTHER = Owner("one", "here 1 1", 1), Owner("other", "there 1 1", 2)
ANY = Bounds()


@pytest.fixture
async def jobs(store: Store) -> AsyncIterator[SqlJobs]:
    with store.database():
        jobs = open_store(store.url)
    try:
        yield jobs
    finally:
        await jobs.close()


def a_job(**said: Any) -> NewJob:
    given: dict[str, Any] = {
        "id": secrets.token_hex(16),
        "caller": "ann",
        "route": "main",
        "operation": "chat",
        "dialect": "openai.chat",
        "model": "m",
        "streams": True,
        "urgency": 3,
        "submission": b"{}",
        "body": b'{"x": 1}',
        "again": None,
        "digest": "d",
        "created_at": BEFORE,
        "give_up_at": LAST,
    }
    return NewJob(**{**given, **said})


async def submitted(jobs: SqlJobs, **said: Any) -> str:
    return (await jobs.submit(a_job(**said), 100)).id


async def claimed(jobs: SqlJobs, owner: Owner = ONE, room: int = 1, bounds: Bounds = ANY) -> list[Claimed]:
    return await jobs.claim(owner, room, bounds, NOW)


def said(job: Claimed, *texts: str, last: int = 0) -> Batch:
    data, end = numbered(b"".join(b"data: %b\n\n" % text.encode() for text in texts), job.generation, last)
    return Batch(job=job.id, generation=job.generation, first=last + 1, last=end, data=data, spent=Spent(3, len(texts)))


DONE = Outcome(state="completed", status=200, ending="complete", spent=Spent(3, 4, False, 7), headers={"x-a": "b"})


async def finished(jobs: SqlJobs, owner: Owner, batch: Batch, keep_until: str = LAST) -> bool:
    """Whether it was still the owner's to end."""
    return not await jobs.finish(owner.id, [(batch, DONE)], NOW, keep_until)


async def texts(jobs: SqlJobs, id: str, generation: int, after: int = 0) -> list[tuple[int, bytes]]:
    return await jobs.events(id, (generation, after), 100)


async def test_a_job_that_was_accepted_is_there(jobs: SqlJobs) -> None:
    id = await submitted(jobs)
    found = await jobs.get(id)
    assert found is not None
    assert (found.state, found.generation, found.caller, found.streams) == ("queued", 0, "ann", True)
    assert await jobs.get("0" * 32) is None


async def test_what_is_sent_twice_is_one_job(jobs: SqlJobs) -> None:
    first = await jobs.submit(a_job(again="k"), 100)
    assert (await jobs.submit(a_job(again="k", digest="other"), 100)).id == first.id
    assert len(await claimed(jobs, room=10)) == 1


async def test_a_caller_has_no_more_waiting_than_it_may(jobs: SqlJobs) -> None:
    await jobs.submit(a_job(), 2)
    await jobs.submit(a_job(), 2)
    with pytest.raises(Full):
        await jobs.submit(a_job(), 2)
    await jobs.submit(a_job(caller="bob"), 2)


async def test_the_most_urgent_is_taken_first_then_the_oldest(jobs: SqlJobs) -> None:
    late = await submitted(jobs, created_at=NOW)
    idle = await submitted(jobs, urgency=7)
    early = await submitted(jobs)
    urgent = await submitted(jobs, urgency=0, created_at=NOW)
    assert [job.id for job in await claimed(jobs, room=10)] == [urgent, early, late, idle]


async def test_a_job_is_taken_once(jobs: SqlJobs) -> None:
    ids = {await submitted(jobs) for _ in range(5)}
    first, second = await claimed(jobs, room=3), await claimed(jobs, OTHER, room=3)
    assert (len(first), len(second)) == (3, 2)
    assert {job.id for job in first + second} == ids
    assert not await jobs.waiting(NOW)


@pytest.mark.parametrize("bounds", [Bounds(per_caller=2), Bounds(per_model=2)])
async def test_no_more_run_at_a_time_than_may(jobs: SqlJobs, bounds: Bounds) -> None:
    for _ in range(4):
        await submitted(jobs)
    for _ in range(2):
        await submitted(jobs, caller="bob", model="n", created_at=NOW)
    first = await claimed(jobs, room=3, bounds=bounds)
    assert [job.caller for job in first] == ["ann", "ann", "bob"]
    assert [job.caller for job in await claimed(jobs, OTHER, room=3, bounds=bounds)] == ["bob"]
    assert await claimed(jobs, OTHER, room=3, bounds=bounds) == []
    assert await finished(jobs, ONE, said(first[0]), LAST)
    assert [job.caller for job in await claimed(jobs, OTHER, room=3, bounds=bounds)] == ["ann"]


async def test_events_are_read_from_where_a_reader_is(jobs: SqlJobs) -> None:
    await submitted(jobs)
    (job,) = await claimed(jobs)
    assert await jobs.save(ONE.id, [said(job, "a", "b")]) == set()
    assert await jobs.save(ONE.id, [said(job, "c", last=2)]) == set()
    assert [first for first, _ in await texts(jobs, job.id, 1)] == [1, 3]
    assert await texts(jobs, job.id, 1, after=2) == [(3, b"id: 1-3\ndata: c\n\n")]
    head = (await jobs.heads([job.id]))[job.id]
    assert (head.state, head.generation, head.last) == ("running", 1, 3)


async def test_what_is_written_twice_is_there_once(jobs: SqlJobs) -> None:
    await submitted(jobs)
    (job,) = await claimed(jobs)
    for _ in range(2):
        assert await jobs.save(ONE.id, [said(job, "a")]) == set()
    for _ in range(2):
        assert await finished(jobs, ONE, said(job, "b", last=1), LAST)
    assert len(await texts(jobs, job.id, 1)) == 2
    (run,) = await jobs.runs(job.id)
    assert (run.call, run.ending, run.cost_nano_usd) == (job.call_id, "complete", 7)


async def test_a_job_that_was_taken_over_is_written_by_nobody_else(jobs: SqlJobs) -> None:
    await submitted(jobs)
    (job,) = await claimed(jobs)
    await jobs.save(ONE.id, [said(job, "a", "b")])
    buried = await jobs.bury([ONE.id], 3, NOW, LAST)
    assert buried.again == (job.id,)
    assert len(await texts(jobs, job.id, 1)) == 1, "what was said stands until it runs again"
    (again,) = await claimed(jobs, OTHER)
    assert (again.id, again.generation) == (job.id, 2)
    assert again.call_id != job.call_id
    assert await texts(jobs, job.id, 1) == []
    assert await jobs.save(ONE.id, [said(job, "late", last=2)]) == {(job.id, 1)}
    assert not await finished(jobs, ONE, said(job, "late", last=2), LAST)
    assert not await jobs.put_back(ONE.id, job, "x", NOW, NOW, LATER, cost=7, undone=False)
    assert await finished(jobs, OTHER, said(again, "whole"), LAST)
    assert await texts(jobs, job.id, 2) == [(1, b"id: 2-1\ndata: whole\n\n")]
    assert [(run.generation, run.ending) for run in await jobs.runs(job.id)] == [
        (1, "gateway_killed"),
        (2, "complete"),
    ]


async def test_a_job_that_kills_its_gateways_is_given_up(jobs: SqlJobs) -> None:
    id = await submitted(jobs)
    for kill in range(2):
        await claimed(jobs)
        buried = await jobs.bury([ONE.id], 2, NOW, LAST)
        assert (buried.again, buried.ended) == (((id,), ()) if kill == 0 else ((), (id,)))
    found = await jobs.get(id)
    assert found is not None
    assert (found.state, found.kills) == ("failed", 2)
    assert found.error is not None
    assert b"job_poisoned" in found.error


async def test_only_those_that_run_have_owners(jobs: SqlJobs) -> None:
    await submitted(jobs)
    assert await jobs.owners("nobody") == []
    await claimed(jobs)
    assert await jobs.owners("nobody") == [("one", "here 1 1", 1, 0)]
    await jobs.beat(Owner("one", "here 1 1", 1, 5))
    assert await jobs.owners("nobody") == [("one", "here 1 1", 1, 5)]
    assert await jobs.owners("one") == []


async def test_who_takes_another_job_goes_on_counting_their_beats(jobs: SqlJobs) -> None:
    await submitted(jobs)
    await claimed(jobs)
    await jobs.beat(Owner("one", "here 1 1", 1, 5))
    await submitted(jobs)
    assert len(await claimed(jobs)) == 1
    assert await jobs.owners("nobody") == [("one", "here 1 1", 1, 5)], "a count that falls back looks like silence"


async def test_one_that_waits_is_cancelled_at_once_one_that_runs_is_marked(jobs: SqlJobs) -> None:
    first, second = await submitted(jobs), await submitted(jobs, created_at=NOW)
    await claimed(jobs)
    for id, state in ((first, "running"), (second, "cancelled")):
        found = await jobs.cancel(id, NOW, LAST)
        assert found is not None
        assert found.state == state
    assert await jobs.cancelling(ONE.id) == [first]
    assert await claimed(jobs, OTHER) == []
    assert (await jobs.bury([ONE.id], 9, NOW, LAST)).ended == (first,), "what is to be stopped does not run again"
    assert await jobs.cancel("0" * 32, NOW, LAST) is None


async def test_one_that_was_put_back_waits_for_its_time(jobs: SqlJobs) -> None:
    id = await submitted(jobs)
    (job,) = await claimed(jobs)
    assert await jobs.put_back(ONE.id, job, "", LATER, NOW, LATER, cost=7, undone=True)
    assert not await jobs.waiting(NOW)
    assert await claimed(jobs) == []
    (again,) = await jobs.claim(ONE, 1, ANY, LATER)
    assert (again.id, again.generation) == (id, 1), "what had not begun does not count"
    assert len(await jobs.runs(id)) == 1
    assert await jobs.put_back(ONE.id, again, "gateway_stopping", NOW, NOW, LATER, cost=7, undone=False)
    (again,) = await claimed(jobs)
    assert again.generation == 2
    told = [(run.ending, run.cost_nano_usd) for run in await jobs.runs(id)]
    assert told == [("gateway_stopping", 7), (None, None)]


async def test_one_that_is_cancelled_while_it_is_put_back_does_not_begin_again(jobs: SqlJobs) -> None:
    id = await submitted(jobs)
    (job,) = await claimed(jobs)
    await jobs.cancel(id, NOW, LAST)
    assert await jobs.put_back(ONE.id, job, "", NOW, NOW, LATER, cost=7, undone=True)
    assert await claimed(jobs) == []
    found = await jobs.get(id)
    assert found is not None
    assert (found.state, found.status, found.remove_at) == ("cancelled", 499, LATER)


async def test_what_has_waited_too_long_is_given_up(jobs: SqlJobs) -> None:
    id = await submitted(jobs, give_up_at=LATER)
    assert await jobs.expire(NOW, LAST) == 0
    assert await jobs.expire(LATER, LAST) == 1
    found = await jobs.get(id)
    assert found is not None
    assert (found.state, found.status) == ("expired", 504)


async def test_what_was_kept_long_enough_is_dropped_and_then_forgotten(jobs: SqlJobs, store: Store) -> None:
    id = await submitted(jobs)
    (job,) = await claimed(jobs)
    await jobs.add_ticket("t", id, LATER)
    await finished(jobs, ONE, said(job, "a"), LATER)
    assert await jobs.has_ticket("t", id, NOW)
    assert not await jobs.has_ticket("t", "0" * 32, NOW)
    assert await jobs.remove(NOW, LAST) == 0
    assert await jobs.remove(LATER, LAST) == 1
    found = await jobs.get(id)
    assert found is not None
    assert found.state == "removed"
    assert store.rows("SELECT submission, body FROM jobs") == [(None, None)]
    assert store.rows("SELECT 1 FROM job_events") == []
    assert await jobs.page("ann", None, None, 10) == []
    assert await jobs.remove(LAST, LAST) == 0
    assert await jobs.get(id) is None
    assert store.rows("SELECT 1 FROM job_runs UNION SELECT 1 FROM job_tickets") == []


async def test_callers_see_their_own_newest_first_by_pages(jobs: SqlJobs) -> None:
    mine = [await submitted(jobs, created_at=f"2026-11-22T11:00:0{second}.000000+00:00") for second in range(3)]
    await submitted(jobs, caller="bob")
    pages: Sequence[str] = [job.id for job in await jobs.page("ann", None, None, 2)]
    assert pages == [mine[2], mine[1]]
    assert [job.id for job in await jobs.page("ann", None, mine[1], 2)] == [mine[0]]
    assert await jobs.page("ann", "running", None, 2) == []
    assert await jobs.page("bob", None, mine[1], 2) == [], "another's job is no place to go on from"
