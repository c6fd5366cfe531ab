"""Budgets with what is left: what the plugin allows, joined with what the ledger has, on each store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sidegate_plugins._budget import Budget, Ready, Rolling
from tests.admin.ground import KEY, Desk, administered, config
from tests.stores import Store

NANO = 10**9
TEAM = {"name": "team", "amount_usd": 5}
MINE = {"name": "mine", "amount_usd": "0.5", "per": ["caller"], "period": "day", "hard": False}
ROLLS = {"name": "rolls", "amount_usd": 1, "period": {"hours": 24}}


def budgeted(url: str, *budgets: dict[str, Any], **rest: Any) -> dict[str, Any]:
    made = config(ledger={"url": url, "batch_seconds": 0}, **rest)
    made["pipelines"]["main"]["plugins"][1]["settings"]["budgets"] = list(budgets)
    return made


async def found(desk: Desk, query: str = "") -> dict[tuple[str, Any], Any]:
    rows = await desk.rows(f"/admin/budgets{query}")
    return {(row["budget"], None if row["subject"] is None else tuple(row["subject"])): row for row in rows}


@pytest.mark.parametrize("kind", ["stored", "memory"])
async def test_what_is_left_is_told_of_each_that_has_spent(kind: str, store: Store) -> None:
    url = "" if kind == "memory" else store.url
    async with administered(budgeted(url, TEAM, MINE, ROLLS)) as desk:
        assert set(await found(desk)) == {("team", None), ("mine", None), ("rolls", None)}
        for caller in ("ann", "bob", "ann"):
            await desk.says(caller)
        rows = await found(desk)
        assert set(rows) == {("team", ()), ("rolls", ()), ("mine", ("ann",)), ("mine", ("bob",))}
        team = rows["team", ()]
        assert (team["limit_nano_usd"], team["spent_nano_usd"], team["held_nano_usd"]) == (5 * NANO, 297_000, 0)
        assert team["left_nano_usd"] == 5 * NANO - 297_000
        assert (team["hard"], team["pipeline"], team["per"]) == (True, "main", [])
        ann = rows["mine", ("ann",)]
        assert (ann["spent_nano_usd"], ann["hard"], ann["per"]) == (198_000, False, ["caller"])
        assert ann["period"] == datetime.now(UTC).date().isoformat()
        assert ann["resets_at"] > datetime.now(UTC).isoformat()
        assert rows["rolls", ()]["resets_at"] is None
        assert rows["rolls", ()]["since"] < rows["rolls", ()]["period"]
        assert set(await found(desk, "?budget=mine")) == {("mine", ("ann",)), ("mine", ("bob",))}


async def test_what_calls_in_flight_hold_is_not_left(store: Store) -> None:
    async with administered(budgeted(store.url, TEAM)) as desk, desk.streaming():
        (row,) = (await found(desk)).values()
        assert row["held_nano_usd"] > 0
        assert row["left_nano_usd"] == 5 * NANO - row["held_nano_usd"] - row["spent_nano_usd"]


async def test_pages_have_each_once(store: Store) -> None:
    async with administered(budgeted(store.url, TEAM, MINE)) as desk:
        for caller in ("ann", "bob"):
            await desk.says(caller)
        seen: list[Any] = []
        after = ""
        while True:
            page = await desk.asks(f"/admin/budgets?limit=1{after}")
            seen += [(row["budget"], row["subject"]) for row in page["data"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert seen == [("mine", ["ann"]), ("mine", ["bob"]), ("team", [])]


async def test_the_budget_of_an_issued_key_is_known_also_after_a_restart(store: Store) -> None:
    made = budgeted(store.url)
    made["pipelines"]["main"]["plugins"][0]["settings"]["issued"] = True
    async with administered(made) as desk:
        asked = {"name": "ann", "allowance": {"budgets": [{"amount_usd": 2, "period": "day"}]}}
        url = desk.running.admin_url + "/admin/keys"
        async with desk.http.post(url, json=asked, headers={"Authorization": f"Bearer {KEY}"}) as reply:
            told = await reply.json()
        await desk.says(told["secret"])
        (before,) = (await found(desk)).values()
    async with administered(made) as desk:
        (after,) = (await found(desk)).values()
    assert before == after
    assert (after["key_id"], after["subject"]) == (told["key"]["id"], [told["key"]["id"]])
    assert (after["limit_nano_usd"], after["spent_nano_usd"]) == (2 * NANO, 99_000)


async def test_what_no_plugin_knows_any_more_has_no_limit(store: Store) -> None:
    async with administered(budgeted(store.url, TEAM)) as desk:
        await desk.says()
    async with administered(budgeted(store.url)) as desk:
        (row,) = (await found(desk)).values()
        assert (row["budget"], row["spent_nano_usd"]) == ("team", 99_000)
        assert row["limit_nano_usd"] is row["left_nano_usd"] is row["pipeline"] is row["hard"] is None


@pytest.mark.parametrize("query", ["after=x", "after=WzFd", "after=%00", "limit=501", "name=team"])
async def test_a_question_that_makes_no_sense_is_a_400(query: str) -> None:
    async with administered(config(ledger={"url": ""})) as desk:
        assert (await desk.asks(f"/admin/budgets?{query}", 400))["code"] == "invalid_request"


@pytest.mark.parametrize(
    ("period", "zone", "now", "resets"),
    [
        ("day", "UTC", "2026-11-22T23:59:59+00:00", "2026-11-23T00:00:00+00:00"),
        ("day", "Europe/Berlin", "2026-11-22T23:30:00+00:00", "2026-11-23T23:00:00+00:00"),
        ("day", "Europe/Berlin", "2026-10-24T23:00:00+00:00", "2026-10-25T23:00:00+00:00"),  # a day of 25 hours
        ("week", "UTC", "2026-11-22T12:00:00+00:00", "2026-11-23T00:00:00+00:00"),
        ("week", "UTC", "2026-11-23T00:00:00+00:00", "2026-11-30T00:00:00+00:00"),
        ("month", "UTC", "2026-12-31T12:00:00+00:00", "2027-01-01T00:00:00+00:00"),
        ("month", "America/New_York", "2026-02-01T04:59:00+00:00", "2026-02-01T05:00:00+00:00"),
        (Rolling(hours=5), "UTC", "2026-11-22T12:00:00+00:00", None),
    ],
)
def test_a_period_ends_where_the_next_begins(period: Any, zone: str, now: str, resets: str | None) -> None:
    ready = Ready(Budget(name="b", amount_usd=1, period=period, timezone=zone))
    ends = ready.resets(datetime.fromisoformat(now))
    assert ends == (None if resets is None else datetime.fromisoformat(resets))
    if ends is not None:
        assert ready.period(ends) != ready.period(datetime.fromisoformat(now))
