"""Calls of all callers: on record, in flight, stopped; and what each plugin did to them."""

from __future__ import annotations

import gc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sidegate.contract import Call, Chunk, Handler, Observer, Plugin, Reply, SystemClock
from sidegate.contract.ids import new_call_id
from sidegate.errors import Refusal
from sidegate.ledger.books import MemoryBooks, open_books
from sidegate.ledger.records import CallsAsked, first_id
from sidegate.ledger.rows import CallRow
from sidegate.ledger.store import NullLedger
from tests.admin.ground import Desk, administered, config, until
from tests.stores import Store

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def row(minutes: int, **fields: Any) -> CallRow:
    """A call that began so many minutes after `NOW`."""
    at = NOW + timedelta(minutes=minutes)
    given: dict[str, Any] = {
        "id": new_call_id(at),
        "route": "default",
        "operation": "chat",
        "dialect": "openai.chat",
        "delivery": "stream",
        "caller": "ann",
        "model_asked": "demo",
        "status": 200,
        "ending": "complete",
        "started_at": at,
        "duration": 1.0,
        **fields,
    }
    return CallRow(**given)


ROWS = [
    row(0),
    row(1, caller="bob"),
    row(2, ending="cut", model_asked="other"),
    row(3, caller="bob", state="unknown"),
    row(4, operation="models", model_asked=""),
]


@pytest.mark.parametrize("kind", ["stored", "memory"])
async def test_calls_are_listed_newest_first_and_filtered(kind: str, store: Store) -> None:
    if kind == "memory":
        null = NullLedger(SystemClock())
        for each in ROWS:
            null.settle(each, ())
        books: Any = MemoryBooks(null)
    else:
        async with store.ledger(SystemClock()) as ledger:
            for each in ROWS:
                ledger.settle(each, ())
            await ledger.flush()
        books = open_books(store.url, ledger)
    try:

        async def found(**asked: Any) -> list[int]:
            rows = await books.calls(CallsAsked(**asked))
            return [[each.id for each in ROWS].index(each.id) for each in rows]

        assert await found() == [4, 3, 2, 1, 0]
        assert await found(limit=2) == [4, 3, 2]  # one more, which says that there is one
        assert await found(after=ROWS[2].id) == [1, 0]
        assert await found(where=(("caller", "bob"),)) == [3, 1]
        assert await found(where=(("caller", "bob"), ("state", "unknown"))) == [3]
        assert await found(where=(("model", "other"),)) == [2]
        assert await found(where=(("state", "reserved"),)) == []
        since, until = NOW + timedelta(minutes=1), NOW + timedelta(minutes=3)
        assert await found(since=since, until=until) == [2, 1]
        assert await found(where=(("caller", "'; DROP TABLE calls; --"),)) == []
    finally:
        books.stop()


def test_a_moment_is_a_bound_of_ids() -> None:
    at = datetime(2026, 11, 22, 12, 0, 0, 500_000, tzinfo=UTC)
    before = new_call_id(at - timedelta(milliseconds=1))
    assert before < first_id(at) < new_call_id(at) < first_id(at + timedelta(milliseconds=1))


async def test_pages_follow_each_other(store: Store) -> None:
    async with administered(config(ledger={"url": store.url})) as desk:
        ids = [await desk.says(caller) for caller in ("ann", "bob", "ann")]
        first = await desk.asks("/admin/calls?limit=2")
        assert [each["id"] for each in first["data"]] == [ids[2], ids[1]]
        second = await desk.asks(f"/admin/calls?limit=2&after={first['next']}")
        assert ([each["id"] for each in second["data"]], second["next"]) == ([ids[0]], None)
        (bobs,) = await desk.rows("/admin/calls?caller=bob&ending=complete&since=1h")
        assert (bobs["id"], bobs["team"], bobs["cost_nano_usd"]) == (ids[1], "blue", 99_000)
        assert await desk.rows("/admin/calls?until=1h") == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=%D9%A1",
        "after=x",
        "state=over",
        "since=yesterday",
        "caller=" + "x" * 257,
        "caller=%00",
        "caller=a&caller=b",
        "where=caller%3Da",
        "state=in_flight&ending=cut",
    ],
)
async def test_a_question_that_makes_no_sense_is_a_400(query: str) -> None:
    async with administered(config(ledger={"url": ""})) as desk:
        assert (await desk.asks(f"/admin/calls?{query}", 400))["code"] == "invalid_request"


async def test_a_call_in_flight_is_seen_whoever_asks_for_it_and_stopped() -> None:
    async with administered(config()) as desk, desk.streaming("ann") as ann, desk.streaming("bob"):
        id = ann.headers["x-request-id"]
        found = await desk.asks("/admin/calls?state=in_flight")
        assert [each["caller"] for each in found["data"]] == ["ann", "bob"]
        assert found["complete"] is True
        assert found["data"][0]["id"] == id
        assert found["data"][0]["model"] == "slow"
        assert found["data"][0]["input_tokens"] == 1
        assert found["data"][0]["cost_nano_usd"] >= 1000
        assert [each["caller"] for each in await desk.rows("/admin/calls?state=in_flight&caller=bob")] == ["bob"]
        assert (await desk.asks(f"/admin/calls/{id}"))["state"] == "in_flight"
        assert await desk.asks(f"/admin/calls/{id}", method="DELETE") == {
            "id": id,
            "state": "ended",
            "ending": "cancelled",
        }
        rest = (await ann.read()).decode()
        assert "cancelled" in rest
        assert [each["caller"] for each in await desk.rows("/admin/calls?state=in_flight")] == ["bob"]
        assert desk.running.log.events("call_stopped")[0]["call"] == id
        known = await desk.asks(f"/admin/calls/{id}")
        assert (known["ending"], known["state"]) == ("cancelled", "settled")
        assert (await desk.asks(f"/admin/calls/{id}", 404, "DELETE"))["code"] == "call_not_found"


async def test_what_was_never_there_is_a_404() -> None:
    async with administered(config()) as desk:
        for path, method in (("", "GET"), ("", "DELETE"), ("/trail", "GET")):
            await desk.asks(f"/admin/calls/{'0' * 32}{path}", 404, method)


async def test_calls_of_another_gateway_are_seen_and_stopped(redis_url: str) -> None:
    shared = {"url": redis_url}
    async with administered(config(counters=shared)) as one, administered(config(counters=shared)) as other:
        async with other.streaming() as stream:
            id = stream.headers["x-request-id"]
            found = await one.asks("/admin/calls?state=in_flight")
            assert ([each["id"] for each in found["data"]], found["complete"]) == ([id], True)
            assert (await one.asks(f"/admin/calls/{id}"))["state"] == "in_flight"
            assert (await one.asks(f"/admin/calls/{id}", method="DELETE"))["ending"] == "cancelled"
            assert "cancelled" in (await stream.read()).decode()


# --- trails -----------------------------------------------------------------------------------------------------------


class Looks(Observer[None]):
    """Looks at each chunk."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        call.tap(lambda chunk: None)
        return await handler(call)


class Breaks(Observer[None]):
    """Fails before it lets the call on."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        raise RuntimeError


class Holds(Plugin[None]):
    """Collects the reply, and adds nothing."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        async with call.hold() as held:
            reply = await handler(call)
            await held.release()
        return reply


class Refuses(Plugin[None]):
    """Says no."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        raise Refusal(403, "not_today", "Not today.")


class Answers(Plugin[None]):
    """Answers without a provider."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        await call.send(Chunk(b"{}", dialect=call.dialect, whole=True, closing=True, meaningful=True, parts=()))
        return Reply()


class Fails(Plugin[None]):
    """A guard with a fault."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        raise ValueError


def use(*plugins: type[Plugin[Any]]) -> list[dict[str, str]]:
    return [{"use": f"{__name__}:{plugin.__name__}"} for plugin in plugins]


async def trail(desk: Desk, status: int = 200, **fields: Any) -> dict[str, tuple[str, list[str]]]:
    id = await desk.says(status=status, **fields)
    found = await desk.asks(f"/admin/calls/{id}/trail")
    assert (await desk.asks(f"/admin/calls/{id}"))["trail"] == found
    assert found["call"] == id
    return {each["name"]: (each["outcome"], each["stages"]) for each in found["plugins"]}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_trail_says_what_each_plugin_did(stream: bool) -> None:
    async with administered(config(*use(Looks, Breaks, Holds), attempt=use(Looks))) as desk:
        assert await trail(desk, stream=stream) == {
            "api_key": ("passed", []),
            "cost": ("passed", ["end"] if stream else []),
            "Looks": ("passed", ["tap"]),
            "Breaks": ("stepped_over", []),
            "Holds": ("passed", ["hold"]),
            "Looks#2": ("passed", ["tap"]),
        }


@pytest.mark.parametrize(
    ("plugin", "status", "outcome"),
    [(Refuses, 403, "refused"), (Fails, 500, "failed"), (Answers, 200, "answered")],
)
async def test_who_ended_a_call_is_known_and_who_was_not_reached(
    plugin: type[Plugin[Any]], status: int, outcome: str
) -> None:
    async with administered(config(*use(plugin, Looks))) as desk:
        found = await trail(desk, status)
        assert found["api_key"] == ("passed", [])
        assert found[plugin.__name__] == (outcome, [])
        assert found["Looks"] == ("not_reached", [])


async def test_the_times_of_a_trail_add_up() -> None:
    async with administered(config(*use(Looks))) as desk:
        found = await desk.asks(f"/admin/calls/{await desk.says(stream=True)}/trail")
        own = sum(each["seconds"] for each in found["plugins"])
        assert found["total_seconds"] == pytest.approx(own + found["attempt_seconds"] + found["other_seconds"])
        (attempt,) = found["attempts"]
        assert attempt["begun_seconds"] + attempt["seconds"] <= found["total_seconds"] + 1e-6
        assert (attempt["provider"], attempt["ending"], attempt["committed"]) == ("demo", "complete", True)


async def test_a_refusal_where_money_is_held_is_the_plugins() -> None:
    budget = {"name": "tiny", "amount_usd": "0.000000001"}
    made = config()
    made["pipelines"]["main"]["plugins"][1]["settings"]["budgets"] = [budget]
    async with administered(made) as desk:
        assert (await trail(desk, 429))["cost"] == ("refused", [])


async def test_only_the_last_calls_are_remembered_or_none() -> None:
    made = config()
    made["admin"]["trails"] = 2
    async with administered(made) as desk:
        ids = [await desk.says() for _ in range(3)]
        await desk.asks(f"/admin/calls/{ids[0]}/trail", 404)
        await desk.asks(f"/admin/calls/{ids[1]}/trail")
    made["admin"]["trails"] = 0
    async with administered(made) as desk:
        id = await desk.says()
        assert (await desk.asks(f"/admin/calls/{id}/trail", 404))["code"] == "trail_not_found"
        assert (await desk.asks(f"/admin/calls/{id}"))["trail"] is None


async def test_a_trail_keeps_nothing_of_the_call_itself() -> None:
    """A body may be large, and an error's traceback leads to it."""
    async with administered(config(*use(Refuses))) as desk:
        await desk.says(status=403)
        await until(_no_call_is_left)


async def _no_call_is_left() -> bool:
    gc.collect()
    return not any(isinstance(each, Call) for each in gc.get_objects())
