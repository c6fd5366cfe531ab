"""Usage by HTTP: a caller sees its own and nobody else's, the administration all, and other calls go on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any

import aiohttp
import pytest

from sidegate.ledger import asking as asking_module
from sidegate.ledger.database import Database
from sidegate.testing import Running, demo_config, gateway
from tests.stores import Store


def served(**rest: Any) -> dict[str, Any]:
    keys = [{"name": name, "digest": sha256(name.encode()).hexdigest()} for name in ("ann", "bob")]
    return demo_config({"use": "api_key", "settings": {"keys": keys}}, **rest)


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


async def talk(http: aiohttp.ClientSession, running: Running, **calls: int) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}
    for name, count in calls.items():
        for _ in range(count):
            async with http.post(running.url + "/v1/chat/completions", json=body, headers=key(name)) as reply:
                assert reply.status == 200
                await reply.read()


@pytest.mark.parametrize("place", ["/v1/usage", "/admin/usage", "/admin/calls"])
async def test_what_has_just_ended_is_on_record_for_whoever_asks(
    http: aiohttp.ClientSession, store: Store, place: str
) -> None:
    """Long before its batch is written by itself."""
    async with gateway(served(ledger={"url": store.url, "batch_seconds": 10})) as running:
        await talk(http, running, ann=2)
        url = running.url if place == "/v1/usage" else running.admin_url
        async with http.get(f"{url}{place}", headers=key("ann")) as reply:
            told = await reply.json()
        assert reply.status == 200
    assert (told["totals"]["calls"] if "totals" in told else len(told["data"])) == 2


async def test_a_ledger_that_cannot_be_written_keeps_no_question_waiting(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asking_module, "WRITTEN_SECONDS", 0.01)
    async with gateway(served(ledger={"url": f"sqlite:///{tmp_path}/ledger.db"})) as running:
        with monkeypatch.context() as patched:
            patched.setattr(running.service.ledger, "flush", never)
            async with http.get(f"{running.url}/v1/usage", headers=key("ann")) as reply:
                assert reply.status == 200


async def test_a_caller_sees_its_own_usage_whatever_it_asks(http: aiohttp.ClientSession, store: Store) -> None:
    async with gateway(served(ledger={"url": store.url})) as running:
        await talk(http, running, ann=2, bob=3)
        for query, calls in (
            ("by=caller,operation&where=operation=chat", [2]),
            ("by=caller&where=operation=chat&where=caller=ann&where=caller=bob", [2]),
            ("by=caller&where=caller=bob", []),
            ("by=model,day&since=7d&where=model=demo", [2]),
        ):
            async with http.get(f"{running.url}/v1/usage?{query}", headers=key("ann")) as reply:
                told = await reply.json()
                assert (reply.status, reply.content_type) == (200, "application/json")
            assert [row["calls"] for row in told["data"]] == calls
            assert {row.get("caller", "ann") for row in told["data"]} <= {"ann"}
            assert told["totals"]["calls"] == sum(calls)


async def test_asking_for_usage_is_a_call_and_passes_the_pipeline(http: aiohttp.ClientSession) -> None:
    async with gateway(served()) as running:
        async with http.get(f"{running.url}/v1/usage") as reply:
            assert (reply.status, reply.content_type) == (401, "application/problem+json")
        async with http.get(f"{running.url}/v1/usage", headers=key("ann")) as reply:
            assert reply.status == 200
        await running.service.ledger.flush()
        record = await running.service.ledger.call(reply.headers["x-request-id"])
    assert record is not None
    assert (record[0].operation, record[0].caller, record[0].ending) == ("usage", "ann", "complete")
    assert record[0].cost_nano_usd == 0


@pytest.mark.parametrize(
    "query", ["by=secrets", "since=soon", "format=csv", "x=1", "by=model&by=day", "where=%ff", "%00=1"]
)
async def test_a_wrong_query_is_a_problem(http: aiohttp.ClientSession, query: str) -> None:
    async with gateway(served()) as running:
        places = [f"{running.url}/v1/usage"]
        if query != "format=csv":
            places.append(f"{running.admin_url}/admin/usage")
        for place in places:
            async with http.get(f"{place}?{query}", headers=key("ann")) as reply:
                problem = await reply.json()
            assert (reply.status, reply.content_type) == (400, "application/problem+json")
            assert (problem["status"], problem["code"]) == (400, "invalid_request")


async def test_the_admin_listener_shows_all_callers(http: aiohttp.ClientSession, store: Store) -> None:
    async with gateway(served(ledger={"url": store.url})) as running:
        await talk(http, running, ann=2, bob=1)
        place = f"{running.admin_url}/admin/usage?by=caller&where=operation=chat"
        async with http.get(place) as reply:
            told = await reply.json()
        assert {row["caller"]: row["calls"] for row in told["data"]} == {"ann": 2, "bob": 1}
        async with http.get(f"{place}&format=csv") as reply:
            text = await reply.text()
        assert reply.content_type == "text/csv"
        assert {line.split(",")[0] for line in text.splitlines()} == {"caller", "ann", "bob"}
        async with http.get(running.url + "/admin/usage", headers=key("ann")) as reply:
            assert reply.status == 404
        async with http.get(f"{place}&format=xml") as reply:
            assert reply.status == 400


async def test_a_plus_in_a_time_is_meant_as_one(http: aiohttp.ClientSession) -> None:
    async with gateway(served()) as running:
        times = "since=2026-11-01T10:00:00+01:00&until=2026-11-02T10:00+0100"
        async with http.get(f"{running.admin_url}/admin/usage?{times}") as reply:
            told = await reply.json()
    assert (told["since"], told["until"]) == ("2026-11-01T09:00:00+00:00", "2026-11-02T09:00:00+00:00")


async def test_without_a_ledger_there_is_no_report(http: aiohttp.ClientSession) -> None:
    async with gateway(served(ledger={"url": ""})) as running:
        for url in (f"{running.url}/v1/usage", f"{running.admin_url}/admin/usage"):
            async with http.get(url, headers=key("ann")) as reply:
                assert (reply.status, (await reply.json())["code"]) == (501, "no_ledger")


async def test_a_route_can_do_without_usage(http: aiohttp.ClientSession) -> None:
    routes = [{"name": "only", "pipeline": "main", "operations": ["chat"]}]
    async with gateway(served(routes=routes)) as running:
        async with http.get(f"{running.url}/v1/usage", headers=key("ann")) as reply:
            assert (reply.status, reply.content_type) == (404, "application/problem+json")


async def test_other_calls_go_on_while_a_report_is_made(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    running_report, let = Event(), Event()
    real = asking_module.asked

    def slow(url: str, work: Callable[[Database], object], over: Callable[[], bool]) -> object:
        running_report.set()
        let.wait(10)
        return real(url, work, over)

    monkeypatch.setattr(asking_module, "asked", slow)
    async with gateway(served()) as running:
        asking = asyncio.create_task(http.get(f"{running.url}/v1/usage?by=caller", headers=key("ann")))
        await asyncio.to_thread(running_report.wait, 5)
        await talk(http, running, ann=1)
        record = await running.service.ledger.call("0" * 32)
        let.set()
        async with await asking as reply:
            assert (record, reply.status) == (None, 200)
