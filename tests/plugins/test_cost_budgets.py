from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec.structs import replace

from sidegate.config import ConfigErrors
from sidegate.contract import Caller, Claim, Host, Message, Model, Rates, Request, Standing, TextContent, Tool
from sidegate.contract.call import Call
from sidegate.testing import Exchange, gateway, host, scripted
from sidegate_plugins._budget import Budget, Ready, Rolling
from sidegate_plugins._budget_bound import bound
from sidegate_plugins._budget_guard import usd
from sidegate_plugins.cost import Cost, Price, Settings
from tests.plugins.calls import HandClock, a_call
from tests.spending import INPUT, OUTPUT, PRICES, Books, budgeted, chat, settled, totals

RATES = Rates(1000, 2000, 1000, 1000, 2000, 1000, 2000)


def ready(**given: Any) -> Ready:
    return Ready(msgspec.convert({"name": "b", "amount_usd": 1, **given}, Budget))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- periods and subjects ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "zone", "moment", "name"),
    [
        ("day", "UTC", "2026-11-22T23:59:59", "2026-11-22"),
        ("day", "Asia/Tokyo", "2026-11-22T15:00:00", "2026-11-23"),
        ("day", "America/New_York", "2026-11-22T04:59:00", "2026-11-21"),
        ("week", "UTC", "2026-11-22T12:00:00", "2026-11-16"),
        ("week", "UTC", "2026-11-23T00:00:00", "2026-11-23"),
        ("week", "UTC", "2027-01-01T00:00:00", "2026-12-28"),
        ("month", "UTC", "2026-11-30T23:59:59", "2026-11"),
        ("month", "Europe/Berlin", "2026-11-30T23:00:00", "2026-12"),
    ],
)
def test_a_period_begins_where_its_time_zone_says(period: str, zone: str, moment: str, name: str) -> None:
    assert ready(period=period, timezone=zone).period(at(moment)) == (name, name)


@pytest.mark.parametrize("hours", [1, 5, 24, 8760])
def test_a_rolling_window_counts_its_hours_in_full_and_at_most_a_twelfth_more(hours: int) -> None:
    budget = ready(period={"hours": hours})
    now = at("2026-11-22T12:34:56")
    for minutes in range(0, hours * 60 + 1, max(1, hours)):
        name, _ = budget.period(now - timedelta(minutes=minutes))
        assert name >= budget.period(now)[1]
    too_old = now - timedelta(hours=hours * 13 / 12, seconds=1)
    assert budget.period(too_old)[0] < budget.period(now)[1]


def test_a_subject_is_each_combination_and_nobody_is_one_too() -> None:
    call = a_call(HandClock(), caller=Caller("ann", key_id="k1", team="red", tags=("x", "y", "x")), model="m")
    assert list(ready().subjects(call)) == ["[]"]
    assert list(ready(per=["caller", "key", "team", "model", "route"]).subjects(call)) == [
        '["ann","k1","red","m","main"]'
    ]
    assert list(ready(per=["team", "tag"]).subjects(call)) == ['["red","x"]', '["red","y"]']
    assert list(ready(per=["end_user", "tag"]).subjects(a_call(HandClock()))) == ['["",""]']
    assert list(ready(per=["caller"]).subjects(a_call(HandClock(), caller="\ud800"))) == ['["?"]']


def test_a_budget_covers_the_names_it_lists() -> None:
    assert ready().covers("anything")
    some = ready(models=["gpt-*", "claude"])
    assert [some.covers(name) for name in ("gpt-5", "claude", "claude-5", "a gpt-5")] == [True, True, False, False]
    assert not ready(models=["claude"]).covers("gpt")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"amount_usd": "much"}, r"budgets\.b\.amount_usd: not a number"),
        ({"amount_usd": -1}, r"budgets\.b\.amount_usd: must be"),
        ({"amount_usd": "1e-10"}, r"budgets\.b\.amount_usd: must be"),
        ({"amount_usd": "Infinity"}, r"budgets\.b\.amount_usd: must be"),
        ({"timezone": "Mars/Olympus"}, r"budgets\.b\.timezone: no such"),
        ({"timezone": "../../etc/passwd"}, r"budgets\.b\.timezone: no such"),
    ],
)
def test_a_budget_that_cannot_work_is_refused_with_its_place(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ready(**given)


def test_two_budgets_of_one_name_are_refused() -> None:
    both = (Budget(name="b", amount_usd=1), Budget(name="b", amount_usd=2, period=Rolling(hours=1)))
    with pytest.raises(ValueError, match="same name"):
        Cost(Settings(budgets=both), host())


# --- bounds -----------------------------------------------------------------------------------------------------------


def asks(**given: Any) -> Call:
    request = Request(model="m", messages=(Message("user", (TextContent("x" * 100),)),), **given)
    call = a_call(HandClock(), request=request)
    call.operation = given.pop("operation", "chat")
    return call


def test_a_bound_is_every_byte_and_every_token_that_may_come() -> None:
    call = asks(max_tokens=10)
    call.asked = replace(call.asked, body=b"y" * 500)
    assert bound(call, RATES, 99) == 1
    per_token = Rates(10**9, 2 * 10**9, 10**9, 10**9, 2 * 10**9, 10**9, 2 * 10**9)
    assert bound(call, per_token, 99) == 564 * 1000 + 10 * 2000


def test_a_bound_takes_the_dearest_rate_each_answer_and_what_a_plugin_added() -> None:
    rates = Rates(10**6, 10**6, 0, 3 * 10**6, 5 * 10**6, 0, 0, request=7)
    plain = bound(asks(max_tokens=10), rates, 99)
    ten = msgspec.Raw(b"10")
    assert plain == 64 * 3 + 50 + 7
    assert bound(asks(), rates, 99) == 64 * 3 + 99 * 5 + 7
    assert bound(asks(max_tokens=10, choices=3), rates, 99) == plain + 100
    assert bound(asks(max_tokens=10, extra={"best_of": 4}), rates, 99) == plain + 150
    assert bound(asks(max_tokens=10, tools=(Tool("t"),)), rates, 99) == plain + 1024 * 3
    twofold = asks(max_tokens=10)
    twofold.asked = replace(twofold.asked, fields={"max_tokens": msgspec.Raw(b"1000"), "max_completion_tokens": ten})
    assert bound(twofold, rates, 99) == plain + 990 * 5
    grown = asks(max_tokens=10)
    grown.request = msgspec.structs.replace(grown.request, messages=(Message("system", (TextContent("y" * 999),)),))
    assert bound(grown, rates, 99) > plain + 999 * 3


def test_a_bound_reckons_with_a_dearer_tier_and_has_an_end() -> None:
    rates = Rates(10**6, 10**6, 0, 0, 0, 0, 0, tiers=(Rates(9 * 10**6, 10**6, 0, 0, 0, 0, 0, above=50),))
    assert bound(asks(max_tokens=1), rates, 99) == 64 * 9 + 1
    assert bound(asks(max_tokens=10**30), rates, 99) == 10**17


# --- the start --------------------------------------------------------------------------------------------------------


def over(known: tuple[Model, ...], **budget: Any) -> Cost:
    made = msgspec.convert({"name": "b", "amount_usd": 1, **budget}, Budget)
    lent: Host = host(models=known)
    return Cost(Settings(prices={"gpt": Price(input=1)}, budgets=(made,)), lent)


async def test_a_hard_budget_over_what_has_no_price_is_refused_at_the_start() -> None:
    models = (Model("fast", (("openai", "gpt"), ("demo", "small"))), Model("any-*", (("demo", "any-*"),)))
    with pytest.raises(ValueError, match=r"budgets\.b: fast has no price \(demo/small\)"):
        await over(models).start()
    await over(models, hard=False).start()
    await over(models, models=["any-*"]).start()


async def test_the_start_says_where() -> None:
    with pytest.raises(Exception, match=r"pipelines\.main.*\[0\]: cannot start: budgets\.b: m has no price"):
        async with gateway(budgeted({"name": "b", "amount_usd": 1}, prices={})):
            raise AssertionError("started")
    with pytest.raises(ConfigErrors, match=r"main\[0\]\.settings: .*budgets\[0\]\.period\.hours"):
        async with gateway(budgeted({"name": "b", "amount_usd": 1, "period": {"hours": 0}})):
            raise AssertionError("started")


# --- through the gateway ----------------------------------------------------------------------------------------------

HARD: dict[str, Any] = {"name": "all", "amount_usd": "0.01", "period": "day"}


def ledger_of(running: Any) -> Path:
    return Path(running.gateway.settings.ledger.url.removeprefix("sqlite:///"))


@pytest.mark.parametrize("stream", [False, True])
async def test_two_hundred_racing_calls_never_spend_over_a_hard_budget(stream: bool) -> None:
    books = Books(7)
    async with scripted(books.answer) as provider, gateway(budgeted(HARD, url=provider.url)) as running:
        async with aiohttp.ClientSession(running.url) as client:

            async def one() -> int:
                async with client.post("/v1/chat/completions", json=chat(stream)) as reply:
                    await reply.read()
                    return reply.status

            statuses = Counter(await asyncio.gather(*(one() for _ in range(200))))
            # One after the other, what the race held and did not spend is spent too.
            while await one() == 200:
                pass
        await running.service.ledger.flush()
        spent, held, overshoot = totals(ledger_of(running))
        cost, unknown = settled(ledger_of(running))
    assert statuses[200] + statuses[429] == 200
    assert spent == cost == sum(books.charged) <= 10_000_000
    assert (held, overshoot, unknown) == (0, 0, 0)
    # Not absurdly under: as many were let in at once as the amount allows, and in the end one call's bound is left.
    most = 250 * INPUT + 20 * OUTPUT
    assert statuses[200] >= 10_000_000 // most
    assert spent > 10_000_000 - most


async def test_a_refusal_reaches_no_provider_and_is_final() -> None:
    books = Books(1)
    small = {**HARD, "amount_usd": "0.0001"}
    async with scripted(books.answer) as provider, gateway(budgeted(small, url=provider.url)) as running:
        async with aiohttp.ClientSession(running.url) as client:
            for path in ("/v1/chat/completions", "/v1/messages"):
                async with client.post(path, json=chat()) as reply:
                    body = await reply.json()
                    assert reply.status == 429
                    assert reply.headers["x-should-retry"] == "false"
                    assert reply.headers["x-sidegate-budget-remaining-usd"] == "0.000100000"
                    assert "Retry-After" not in reply.headers
                    assert "`all`" in body["error"]["message"]
                    if path == "/v1/chat/completions":
                        assert (body["error"]["type"], body["error"]["code"]) == ("insufficient_quota",) * 2
                    id = reply.headers["x-request-id"]
                row, _ = await recorded(running, id)
                assert (row.plugin, row.error, row.cost_nano_usd) == ("cost", "insufficient_quota", 0)
        (line, _) = running.log.events("budget_refused")
        assert (line["budget"], line["limit_nano_usd"]) == ("all", 100_000)
        metrics = running.service.metrics.registry.get_sample_value
        assert metrics("sidegate_plugin_budget_refusals_total", {"budget": "all"}) == 2
        assert totals(ledger_of(running)) == (0, 0, 0)
    assert provider.exchanges == []


async def recorded(running: Any, id: str) -> Any:
    for _ in range(1000):
        if (found := await running.service.ledger.call(id)) is not None:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("the call was never settled")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_is_told_what_is_left_and_its_reply_is_limited(stream: bool) -> None:
    books = Books(1)
    config_of = {"settings": {"default_max_tokens": 11}}
    async with scripted(books.answer) as provider, gateway(budgeted(HARD, url=provider.url, **config_of)) as running:
        async with aiohttp.ClientSession(running.url) as client:
            async with client.post("/v1/chat/completions", json=chat(stream, max_tokens=None)) as reply:
                await reply.read()
                left = float(reply.headers["x-sidegate-budget-remaining-usd"])
    assert 0.009 < left < 0.01
    assert provider.exchanges[0].json["max_tokens"] == 11


async def test_a_client_that_wants_no_reply_is_given_none_and_it_is_not_held() -> None:
    """Anthropic fills its cache of prompts by `max_tokens: 0`; any other limit in its place is a reply that is paid."""
    held: list[int] = []

    async def fills(exchange: Exchange) -> None:
        held.append(totals(ledger_of(running))[1])
        usage = {"input_tokens": 0, "cache_creation_input_tokens": 20, "output_tokens": 0}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "real-1", "content": []}
        await exchange.reply(msgspec.json.encode({**message, "stop_reason": "max_tokens", "usage": usage}))

    async with scripted(fills) as provider:
        config = budgeted(HARD, url=provider.url, dialect="anthropic")
        async with gateway(config) as running, aiohttp.ClientSession(running.url) as client:
            for most in (0, 1):
                async with client.post("/v1/messages", json=chat(max_tokens=most)) as reply:
                    assert reply.status == 200, await reply.text()
            assert [exchange.json["max_tokens"] for exchange in provider.exchanges] == [0, 1]
    assert held[1] - held[0] == OUTPUT


async def test_a_retry_is_held_anew_and_each_attempt_is_charged() -> None:
    books = Books(1)
    calls = 0

    async def script(exchange: Exchange) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await exchange.reply(b'{"error":{"message":"no"}}', status=503)
        else:
            await books.answer(exchange)

    async with scripted(script) as provider, gateway(budgeted(HARD, url=provider.url)) as running:
        async with aiohttp.ClientSession(running.url) as client:
            async with client.post("/v1/chat/completions", json=chat()) as reply:
                assert reply.status == 200
        await running.service.ledger.flush()
        assert totals(ledger_of(running)) == (sum(books.charged), 0, 0)
    assert calls == 2


async def test_what_a_provider_reports_beyond_the_bound_is_overshoot_and_refuses_the_next() -> None:
    async def lavish(exchange: Exchange) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
        body = {"id": "c", "object": "chat.completion", "created": 1, "model": "real", "choices": [choice]}
        usage = {"prompt_tokens": 10, "completion_tokens": 90_000}
        await exchange.reply(msgspec.json.encode({**body, "usage": usage}))

    async with scripted(lavish) as provider, gateway(budgeted(HARD, url=provider.url)) as running:
        async with aiohttp.ClientSession(running.url) as client:
            statuses = []
            for _ in range(2):
                async with client.post("/v1/chat/completions", json=chat()) as reply:
                    await reply.read()
                    statuses.append(reply.status)
                await running.service.ledger.flush()
        spent, held, overshoot = totals(ledger_of(running))
        (line,) = running.log.events("budget_overshoot")
    assert statuses == [200, 429]
    assert (spent, held) == (90_000 * OUTPUT + 10 * INPUT, 0)
    assert overshoot == spent - line["held_nano_usd"]


async def test_a_soft_budget_warns_and_refuses_nothing() -> None:
    books = Books(1)
    soft = {"name": "watch", "amount_usd": "0.00001", "hard": False}
    async with scripted(books.answer) as provider, gateway(budgeted(soft, url=provider.url)) as running:
        async with aiohttp.ClientSession(running.url) as client:
            told = []
            for _ in range(3):
                async with client.post("/v1/chat/completions", json=chat()) as reply:
                    assert reply.status == 200
                    told.append(reply.headers.get("x-sidegate-budget-warning"))
                    assert "x-sidegate-budget-remaining-usd" not in reply.headers
                await running.service.ledger.flush()
        assert len(running.log.events("budget_warning")) == 2
        metrics = running.service.metrics.registry.get_sample_value
        assert metrics("sidegate_plugin_budget_warnings_total", {"budget": "watch"}) == 2
    assert told[0] is None
    assert told[1] == f"watch: {usd(books.charged[0])} of 0.000010000 USD"


async def test_a_name_under_a_pattern_without_a_price_is_refused_call_by_call() -> None:
    config = budgeted(HARD)
    config["models"] = {"m": config["models"]["m"], "any-*": [{"provider": "p0"}]}
    async with gateway(config) as running, aiohttp.ClientSession(running.url) as client:
        async with client.post("/v1/chat/completions", json=chat(model="any-thing")) as reply:
            assert reply.status == 400
            assert (await reply.json())["error"]["code"] == "model_not_priced"


async def test_each_subject_has_the_whole_amount_and_other_models_none_of_it() -> None:
    books = Books(1)
    per = {"name": "model", "amount_usd": "0.0003", "per": ["model"], "models": ["m", "n"]}
    async with scripted(books.answer) as provider:
        config = budgeted(per, url=provider.url)
        config["models"] = dict.fromkeys(("m", "n", "free"), config["models"]["m"])
        async with gateway(config) as running, aiohttp.ClientSession(running.url) as client:
            statuses: dict[str, list[int]] = {"m": [], "n": [], "free": []}
            for _ in range(12):
                for name, kept in statuses.items():
                    async with client.post("/v1/chat/completions", json=chat(model=name)) as reply:
                        await reply.read()
                        kept.append(reply.status)
    assert statuses["free"] == [200] * 12
    for name in ("m", "n"):
        assert statuses[name][0] == 200
        assert statuses[name][-1] == 429


async def test_what_a_client_that_leaves_may_have_cost_is_settled_or_held() -> None:
    books = Books(1, pause=0.05)
    async with scripted(books.answer) as provider, gateway(budgeted(HARD, url=provider.url)) as running:
        async with aiohttp.ClientSession(running.url) as client:
            async with client.post("/v1/chat/completions", json=chat(stream=True)) as reply:
                await reply.content.readany()
                id = reply.headers["x-request-id"]
            row, _ = await recorded(running, id)
            with pytest.raises(asyncio.TimeoutError):
                async with client.post(
                    "/v1/chat/completions", json=chat(), timeout=aiohttp.ClientTimeout(total=0.03)
                ) as reply:
                    raise AssertionError("answered")
        for _ in range(500):
            if not len(running.service.live):
                break
            await asyncio.sleep(0.01)
        await running.service.ledger.flush()
        spent, held, _ = totals(ledger_of(running))
        cost, unknown = settled(ledger_of(running))
    assert (row.ending, spent) == ("client_gone", cost)
    assert (held > 0) == (unknown > 0)


async def test_without_a_ledger_budgets_hold_as_long_as_the_gateway_runs() -> None:
    books = Books(1)
    small = {**HARD, "amount_usd": "0.0005"}
    async with scripted(books.answer) as provider:
        async with gateway(budgeted(small, url=provider.url, ledger={"url": ""})) as running:
            async with aiohttp.ClientSession(running.url) as client:
                statuses = []
                for _ in range(12):
                    async with client.post("/v1/chat/completions", json=chat()) as reply:
                        await reply.read()
                        statuses.append(reply.status)
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert sum(books.charged) <= 500_000


async def test_a_call_that_is_cancelled_while_it_waits_for_the_disk_holds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sidegate.ledger.sqlite_file.BUSY_SECONDS", 0.05)
    books = Books(1)
    async with scripted(books.answer) as provider, gateway(budgeted(HARD, url=provider.url)) as running:
        async with aiohttp.ClientSession(running.url) as client:
            with closing(sqlite3.connect(ledger_of(running), isolation_level=None)) as file:
                file.execute("BEGIN IMMEDIATE")
                with pytest.raises(asyncio.TimeoutError):
                    async with client.post(
                        "/v1/chat/completions", json=chat(), timeout=aiohttp.ClientTimeout(total=0.3)
                    ) as reply:
                        raise AssertionError(reply.status)
                for _ in range(500):
                    if not len(running.service.live):
                        break
                    await asyncio.sleep(0.01)
                file.execute("ROLLBACK")
            await running.service.ledger.flush()
        assert totals(ledger_of(running)) == (0, 0, 0)
    assert provider.exchanges == []


def test_a_standing_that_is_refused_leaves_what_was_there() -> None:
    assert Standing(Claim("b", "[]", "d", "d", 60, 100), 70).remaining == 30
    assert PRICES["real"]["input"] * 10**3 == INPUT
