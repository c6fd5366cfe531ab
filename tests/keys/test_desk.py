"""The verbs, on each store: what is kept of a key, what of it is shown, and in which order changes are found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidegate.contract.allowance import Allowance
from sidegate.contract.keys import key_digest
from sidegate.errors import BadRequest, Refusal
from sidegate.keys.asked import Change, Filter, Issue, Rotate, read
from sidegate.keys.desk import Desk, Told
from sidegate.keys.key import Key
from sidegate.keys.sql import SqlKeys, keys_of
from sidegate.ledger.opening import database_of
from tests.plugins.calls import EPOCH, HandClock, ListLog
from tests.stores import Store

ALL = {
    "models": ["gpt-*"],
    "limits": [{"requests": 60, "period": "minute"}],
    "concurrency": 5,
    "budgets": [{"amount_usd": "20.00", "period": "month", "timezone": "Europe/Berlin"}],
}


class Place:
    """A desk on a store, with its clock and log."""

    def __init__(self, keys: SqlKeys) -> None:
        self.keys = keys
        self.clock = HandClock()
        self.log = ListLog()
        self.changed: list[str] = []
        self.desk = Desk(keys, self.clock, self.log, "test", self.changed.append)

    async def issue(self, name: str = "ann", **more: Any) -> Told:
        return await self.desk.issue(read({"name": name, **more}, Issue))

    async def change(self, id: str, **asked: Any) -> Any:
        return await self.desk.change(id, read(asked, Change))

    async def names(self, **asked: Any) -> list[str]:
        return [key.name for key in (await self.desk.page(read(asked, Filter))).keys]

    async def kept(self, id: str) -> Key:
        key = await self.keys.get(id)
        assert key is not None
        return key


@asynccontextmanager
async def placed(store: Store) -> AsyncIterator[Place]:
    keys = keys_of(store.url)
    try:
        yield Place(keys)
    finally:
        await keys.close()


@pytest.fixture
async def place(store: Store) -> AsyncIterator[Place]:
    async with placed(store) as made:
        yield made


async def refused(work: Any) -> Refusal:
    with pytest.raises(Refusal) as found:
        await work
    return found.value


# --- issue ------------------------------------------------------------------------------------------------------------


async def test_a_key_is_kept_by_its_digest_with_all_its_attributes(place: Place) -> None:
    told = await place.issue(
        owner="ann@example.com", team="red", tags=["a", "b"], names_end_users=True, expires="90d", allowance=ALL
    )
    key = await place.kept(told.key.id)
    assert key.digest == key_digest(told.secret)
    caller = key.caller()
    assert (caller.name, caller.owner, caller.team, caller.tags) == ("ann", "ann@example.com", "red", ("a", "b"))
    assert (caller.key_id, caller.names_end_users) == (told.key.id, True)
    assert caller.allowance == msgspec.convert(ALL, Allowance)
    assert key.expires_at == EPOCH + timedelta(days=90)
    assert place.changed == [told.key.id]


async def test_an_allowance_that_allows_all_is_none(place: Place) -> None:
    told = await place.issue(allowance={})
    assert (await place.kept(told.key.id)).allowance is None


async def test_what_is_shown_of_a_key_has_no_digest_and_no_secret(place: Place) -> None:
    told = await place.issue()
    rotated = await place.desk.rotate(told.key.id, Rotate())
    page = await place.desk.page(Filter())
    shown = msgspec.json.encode([page, await place.desk.show(told.key.id), place.log.lines]).decode()
    assert told.key.id in shown
    for secret in (told.secret, rotated.secret):
        assert secret not in shown
        assert key_digest(secret) not in shown


async def test_every_change_is_a_line_in_the_log(place: Place) -> None:
    told = await place.issue(owner="boss")
    await place.desk.rotate(told.key.id, Rotate(grace="1h"))
    await place.change(told.key.id, team="red")
    await place.desk.revoke(told.key.id)
    who = {"by": "test", "key_id": told.key.id, "name": "ann", "owner": "boss"}
    assert place.log.lines == [
        ("key_issued", who),
        ("key_rotated", {**who, "grace_seconds": 3600}),
        ("key_changed", who),
        ("key_revoked", who),
    ]


# --- rotate, revoke, expire -------------------------------------------------------------------------------------------


async def test_a_rotated_key_keeps_its_id_and_its_old_secret_for_the_grace(place: Place) -> None:
    told = await place.issue()
    rotated = await place.desk.rotate(told.key.id, Rotate(grace="1h"))
    assert rotated.key.id == told.key.id
    assert rotated.secret != told.secret
    assert rotated.key.rotated_until == EPOCH + timedelta(hours=1)
    old, new = key_digest(told.secret), key_digest(rotated.secret)
    (key,) = await place.keys.find([old])
    assert (key.until(old), key.until(new)) == (EPOCH + timedelta(hours=1), None)
    place.clock.pass_by(3600)
    assert (await place.desk.show(told.key.id)).rotated_until is None


async def test_without_grace_the_old_secret_is_gone_and_so_is_one_rotated_twice(place: Place) -> None:
    told = await place.issue()
    again = await place.desk.rotate(told.key.id, Rotate())
    third = await place.desk.rotate(told.key.id, Rotate())
    assert await place.keys.find([key_digest(told.secret)]) == []
    assert len(await place.keys.find([key_digest(again.secret), key_digest(third.secret)])) == 1
    await place.desk.rotate(told.key.id, Rotate(grace="0"))
    assert await place.keys.find([key_digest(third.secret)]) == []


async def test_a_revoked_key_is_found_by_no_secret_and_stays_as_it_is(place: Place) -> None:
    told = await place.issue()
    rotated = await place.desk.rotate(told.key.id, Rotate())
    revoked = await place.desk.revoke(told.key.id)
    assert (revoked.state, revoked.rotated_until) == ("revoked", None)
    assert await place.keys.find([key_digest(told.secret), key_digest(rotated.secret)]) == []
    place.clock.pass_by(60)
    assert (await place.desk.revoke(told.key.id)).revoked_at == revoked.revoked_at
    for work in (place.desk.rotate(told.key.id, Rotate()), place.change(told.key.id, team="red")):
        assert (error := await refused(work)).status == 409
        assert error.code == "key_revoked"


async def test_an_expired_key_can_be_given_more_time_but_not_another_secret(place: Place) -> None:
    told = await place.issue(expires="1h")
    place.clock.pass_by(3600)
    assert (await place.desk.show(told.key.id)).state == "expired"
    assert (await refused(place.desk.rotate(told.key.id, Rotate()))).code == "key_expired"
    assert (await place.change(told.key.id, expires="1h")).state == "active"
    assert (await place.change(told.key.id, expires=None)).expires_at is None


async def test_a_key_that_is_not_there_is_told_apart(place: Place) -> None:
    for work in (
        place.desk.show("key-0"),
        place.desk.revoke("key-0"),
        place.desk.rotate("key-0", Rotate()),
        place.change("key-0", team="red"),
    ):
        assert (await refused(work)).code == "key_not_found"


# --- change -----------------------------------------------------------------------------------------------------------


async def test_what_is_not_named_stays_and_null_takes_away(place: Place) -> None:
    told = await place.issue(owner="boss", team="red", tags=["a"], allowance=ALL)
    changed = await place.change(told.key.id, team=None, tags=None, allowance={"models": ["*"], "budgets": None})
    assert (changed.owner, changed.team, changed.tags) == ("boss", None, ())
    assert changed.allowance == msgspec.convert({**ALL, "models": ["*"], "budgets": []}, Allowance)
    assert (await place.change(told.key.id, allowance=None)).allowance is None
    assert (await place.kept(told.key.id)).digest == key_digest(told.secret)


async def test_a_change_that_makes_no_sense_changes_nothing(place: Place) -> None:
    told = await place.issue(allowance=ALL)
    twice = [{"amount_usd": 1}, {"amount_usd": 2}]
    with pytest.raises(BadRequest, match="there can be one"):
        await place.change(told.key.id, team="red", allowance={"budgets": twice})
    assert (await place.desk.show(told.key.id)) == told.key


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_a_list_is_by_attributes_and_state(place: Place) -> None:
    red = await place.issue("a", team="red", owner="x")
    place.clock.pass_by(1)
    await place.issue("b", team="red", expires="1h")
    place.clock.pass_by(1)
    await place.issue("c", owner="x")
    await place.desk.revoke(red.key.id)
    place.clock.pass_by(3600)
    assert await place.names() == ["a", "b", "c"]
    assert await place.names(team="red") == ["a", "b"]
    assert await place.names(owner="x", state="active") == ["c"]
    assert await place.names(state="expired") == ["b"]
    assert await place.names(state="revoked") == ["a"]
    assert await place.names(name="' OR 1=1 --") == []


async def test_pages_show_every_key_once_also_those_of_one_moment(place: Place) -> None:
    issued = [(await place.issue(f"n{number}")).key.id for number in range(7)]
    seen: list[str] = []
    after: str | None = None
    for _ in range(3):
        page = await place.desk.page(Filter(limit=3, after=after))
        seen += [key.id for key in page.keys]
        after = page.next
    assert after is None
    assert sorted(seen) == sorted(issued)
    assert (await refused(place.desk.page(Filter(after="key-0")))).param == "after"


# --- what changed -----------------------------------------------------------------------------------------------------


async def test_changes_are_in_order_whatever_the_clock_says(place: Place) -> None:
    first = await place.issue()
    since, _ = await place.keys.changed(None)
    place.clock.pass_by(-86_400)
    second = await place.issue()
    later, ids = await place.keys.changed(since)
    assert ids == frozenset({second.key.id})
    await place.desk.revoke(first.key.id)
    assert (await place.keys.changed(later))[1] == frozenset({first.key.id})
    place.clock.pass_by(-1)
    await place.desk.revoke(first.key.id)  # nothing changes
    assert (await place.keys.changed((await place.keys.changed(later))[0]))[1] == frozenset()


async def test_racing_changes_each_have_a_time_of_their_own_and_none_is_lost(store: Store) -> None:
    async with placed(store) as one, placed(store) as other:
        id = (await one.issue()).key.id
        since, _ = await one.keys.changed(None)

        async def tagged(place: Place, name: str, value: str) -> None:
            await place.change(id, **{name: value})

        await asyncio.gather(
            *(one.issue(f"n{number}") for number in range(10)),
            *(other.issue(f"m{number}") for number in range(10)),
            tagged(one, "team", "red"),
            tagged(other, "owner", "boss"),
        )
        shown = await one.desk.show(id)
        assert (shown.team, shown.owner) == ("red", "boss")
        times = store.rows("SELECT changed_at FROM api_keys")
        assert len(set(times)) == len(times) == 21
        ids = (await other.keys.changed(since))[1]
        assert ids is not None
        assert len(ids) == 21


async def test_a_key_whose_restrictions_cannot_be_read_lets_nobody_in(
    place: Place, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    told, well = await place.issue(), await place.issue()
    store.execute("UPDATE api_keys SET allowance = ? WHERE id = ?", '{"of_tomorrow": 1}', told.key.id)
    found = await place.keys.find([key_digest(told.secret), key_digest(well.secret)])
    assert [key.id for key in found] == [well.key.id]
    assert told.key.id in caplog.text


async def test_a_store_that_is_down_is_503() -> None:
    keys = SqlKeys(*[database_of("postgresql://nobody@127.0.0.1:9/none", patience=1.0)] * 2)
    error = await refused(Place(keys).issue())
    await keys.close()
    assert (error.status, error.code, error.retry_after) == (503, "key_store_unavailable", 1)


def contents(folder: Path) -> bytes:
    """Of every file in it."""
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_no_secret_is_in_a_byte_of_the_file(tmp_path: Path) -> None:
    keys = SqlKeys(*[database_of(f"sqlite:///{tmp_path}/ledger.db")] * 2)
    place = Place(keys)
    told = await place.issue("a name that is in it")
    rotated = await place.desk.rotate(told.key.id, Rotate())
    with_wal = contents(tmp_path)
    await keys.close()
    for data in (with_wal, contents(tmp_path)):
        assert b"a name that is in it" in data
        assert key_digest(rotated.secret).encode() in data
        assert told.secret.encode() not in data
        assert rotated.secret.encode() not in data
