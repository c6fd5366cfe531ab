"""Keys that are issued while a gateway runs: let in, held to what they allow, rotated, revoked; on each store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidegate.contract.keys import key_digest
from sidegate.errors import ConfigError
from sidegate.keys.asked import Change, Issue, Rotate, read
from sidegate.keys.desk import Desk, Told
from sidegate.keys.sql import keys_of
from sidegate.ledger.migrate import migrate
from sidegate.testing import Exchange, Running, demo_config, gateway, scripted
from tests.keys.test_desk import contents
from tests.plugins.calls import EPOCH, HandClock, ListLog
from tests.relaying import DONE, ROLE, STOP, WHOLE, delta, until
from tests.spending import INPUT, OUTPUT, Books
from tests.stores import Store

KEY = {"use": "api_key", "settings": {"issued": True}}
MODELS = {"use": "model_access", "settings": {"default": ["*"]}}
COST = {"use": "cost", "settings": {"prices": {"demo*": {"input": 1, "output": 2}, "real": {"input": 1, "output": 2}}}}
SLOW = {"demo": {"dialect": "demo", "settings": {"tokens_per_second": 40, "first_token": 0}}}
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}

everywhere = pytest.mark.parametrize(
    ("dialect", "stream"), [("openai", True), ("openai", False), ("anthropic", True), ("anthropic", False)]
)


class Scene:
    """A gateway, and a client with a key."""

    def __init__(self, running: Running, http: aiohttp.ClientSession) -> None:
        self.running = running
        self.desk = running.service.desk
        self._http = http

    async def issue(self, name: str = "ann", **more: Any) -> Told:
        return await self.desk.issue(read({"name": name, **more}, Issue))

    def post(self, key: str, dialect: str = "openai", stream: bool = False, **more: Any) -> Any:
        body = {"model": "demo", "max_tokens": 5, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]}
        headers = {"authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}
        return self._http.post(self.running.url + PATHS[dialect], json={**body, **more}, headers=headers)

    async def ask(self, key: str, dialect: str = "openai", stream: bool = False, **more: Any) -> tuple[int, str]:
        async with self.post(key, dialect, stream, **more) as response:
            return response.status, await response.text()

    async def status(self, key: str, **more: Any) -> int:
        return (await self.ask(key, **more))[0]


@asynccontextmanager
async def scene(
    http: aiohttp.ClientSession, url: str, *plugins: Any, clock: HandClock | None = None, **more: Any
) -> AsyncIterator[Scene]:
    config = demo_config(*(plugins or (KEY, MODELS, COST)), ledger={"url": url}, **more)
    async with gateway(config, clock=clock) as running:
        yield Scene(running, http)


# --- in and out -------------------------------------------------------------------------------------------------------


@everywhere
async def test_a_key_is_let_in_from_when_it_is_issued_until_it_is_revoked(
    http: aiohttp.ClientSession, store: Store, dialect: str, stream: bool
) -> None:
    async with scene(http, store.url) as there:
        told = await there.issue(team="red", owner="boss")
        status, body = await there.ask(told.secret, dialect, stream)
        assert status == 200, body
        assert (await there.ask(told.secret[:-1], dialect, stream))[0] == 401
        assert (await there.ask(key_digest(told.secret), dialect, stream))[0] == 401
        await there.desk.revoke(told.key.id)
        status, body = await there.ask(told.secret, dialect, stream)
        assert status == 401
        assert "The API key is not valid." in body
        await there.running.service.ledger.flush()
    ((caller, key_id, team),) = store.rows("SELECT caller, key_id, team FROM calls WHERE status = 200")
    assert (caller, key_id, team) == ("ann", told.key.id, "red")


def at(url: str) -> Any:
    return {"demo": {"dialect": "openai", "base_url": url, "api_key": "k"}}


@everywhere
async def test_a_stream_ends_well_whatever_becomes_of_its_key(
    http: aiohttp.ClientSession, store: Store, dialect: str, stream: bool
) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        """Answers the first one when it is told to."""
        first = not asked.is_set()
        asked.set()
        if first:
            await go.wait()
        if exchange.json.get("stream"):
            await exchange.stream(ROLE, delta(content="Hi"), STOP, DONE)
        else:
            await exchange.reply(WHOLE)

    async with scripted(waits) as provider, scene(http, store.url, providers=at(provider.url)) as there:
        told = await there.issue()
        running = asyncio.ensure_future(there.ask(told.secret, dialect, stream))
        await asked.wait()
        rotated = await there.desk.rotate(told.key.id, Rotate(grace="0"))
        assert await there.status(told.secret) == 401
        assert await there.status(rotated.secret) == 200
        await there.desk.revoke(told.key.id)
        assert not running.done()
        go.set()
        status, body = await running
        assert status == 200
        if stream:
            assert ("[DONE]" if dialect == "openai" else "message_stop") in body


async def test_an_old_secret_lives_for_the_grace_and_a_key_until_it_expires(
    http: aiohttp.ClientSession, store: Store
) -> None:
    clock = HandClock()
    async with scene(http, store.url, clock=clock) as there:
        told = await there.issue(expires="2h")
        rotated = await there.desk.rotate(told.key.id, Rotate(grace="1h"))
        assert [await there.status(key) for key in (told.secret, rotated.secret)] == [200, 200]
        clock.pass_by(3600)
        await there.running.service.keys.refresh()
        assert [await there.status(key) for key in (told.secret, rotated.secret)] == [401, 200]
        clock.pass_by(3600)
        assert await there.status(rotated.secret) == 401
        await there.desk.change(told.key.id, Change(expires="1h"))
        assert await there.status(rotated.secret) == 200


async def test_what_another_process_does_counts_soon_and_a_new_key_at_once(
    http: aiohttp.ClientSession, store: Store
) -> None:
    async with scene(http, store.url) as one, scene(http, store.url) as other:
        told = await one.issue()
        assert await other.status(told.secret) == 200
        await one.desk.revoke(told.key.id)
        assert await one.status(told.secret) == 401
        async with asyncio.timeout(10):  # said to be 2 s
            while await other.status(told.secret) == 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_keys_of_config_and_file_are_let_in_as_well(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    allowance = {"models": ["demo"]}
    keys = [{"name": "ops", "digest": key_digest("sg-ops"), "owner": "boss", "allowance": allowance}]
    file = tmp_path / "keys.jsonl"
    file.write_text(f'{{"name": "batch", "digest": "{key_digest("sg-batch")}", "allowance": {{"models": ["x"]}}}}\n')
    file.chmod(0o600)
    both = {"use": "api_key", "settings": {"issued": True, "keys": keys, "file": str(file)}}
    async with scene(http, f"sqlite:///{tmp_path}/l.db", both, MODELS) as there:
        told = await there.issue()
        for key in (told.secret, "sg-ops"):
            assert await there.status(key) == 200
        assert await there.status("sg-batch") == 404


async def test_without_the_setting_no_issued_key_is_let_in(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    keys = [{"name": "ops", "digest": key_digest("sg-ops")}]
    async with scene(http, f"sqlite:///{tmp_path}/l.db", {"use": "api_key", "settings": {"keys": keys}}) as there:
        told = await there.issue()
        assert await there.status(told.secret) == 401
        assert await there.status("sg-ops") == 200


async def test_without_a_ledger_there_are_no_issued_keys_and_the_start_says_so(http: aiohttp.ClientSession) -> None:
    with pytest.raises(ConfigError, match=r"^pipelines\.main\[0\]: .*issued needs a ledger"):
        async with scene(http, ""):
            pass
    keys = [{"name": "ops", "digest": key_digest("sg-ops")}]
    async with scene(http, "", {"use": "api_key", "settings": {"issued": True, "keys": keys}}) as there:
        assert there.running.service.told == ["no keys can be issued: there is no ledger to keep them in (ledger.url)"]
        assert await there.status("sg-unknown") == 401
        assert await there.status("sg-ops") == 200
        async with http.post(f"{there.running.admin_url}/admin/keys", json={"name": "ann"}) as response:
            assert (response.status, (await response.json())["code"]) == (501, "no_ledger")


# --- the store is down ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent", [False, True])
async def test_while_the_store_is_down_known_keys_go_on_and_others_are_not_called_wrong(
    http: aiohttp.ClientSession, postgres_url: str, fault_proxy: Any, silent: bool
) -> None:
    migrate(postgres_url)
    proxy = await fault_proxy(postgres_url)
    clock = HandClock()
    async with scene(http, proxy.url, KEY, clock=clock) as there:
        told, other = await there.issue(), await there.issue()
        headers = {"authorization": f"Bearer {told.secret}"}
        models = f"{there.running.url}/v1/models"
        async with http.get(models, headers=headers) as response:
            assert response.status == 200
        if silent:
            proxy.black_hole()
        else:
            await proxy.refuse()
        async with http.get(models, headers=headers) as response:
            assert response.status == 200
        async with http.get(models, headers={"authorization": f"Bearer {other.secret}"}) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (503, "key_store_unavailable")
            assert response.headers["Retry-After"] == "1"
        clock.pass_by(601)
        async with http.get(models, headers=headers) as response:
            assert response.status == 503
        await proxy.heal()
        async with asyncio.timeout(30):
            while not there.running.log.events("key_store_back"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for secret in (told.secret, other.secret):
            async with http.get(models, headers={"authorization": f"Bearer {secret}"}) as response:
                assert response.status == 200


async def test_a_revocation_whose_answer_is_lost_counts_all_the_same(
    http: aiohttp.ClientSession, postgres_url: str, fault_proxy: Any
) -> None:
    migrate(postgres_url)
    proxy = await fault_proxy(postgres_url)
    async with scene(http, proxy.url, KEY) as there:
        told = await there.issue()
        one = f"{there.running.admin_url}/admin/keys/{told.key.id}"
        headers = {"authorization": f"Bearer {told.secret}"}
        async with http.get(f"{there.running.url}/v1/models", headers=headers) as response:
            assert response.status == 200
        await there.running.service.ledger.flush()
        struck = proxy.lose_answer(b"COMMIT")
        async with http.delete(one) as response:
            assert response.status == 503
            assert (await response.json())["code"] == "key_store_unavailable"
        assert struck.is_set()
        async with http.get(f"{there.running.url}/v1/models", headers=headers) as response:
            assert response.status == 401
        async with http.get(one) as response:
            assert (await response.json())["state"] == "revoked"


# --- what a key allows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowance", "plugins", "missing"),
    [
        ({"models": ["demo"]}, (KEY, COST), "models (plugin model_access)"),
        ({"models": ["demo"]}, (MODELS, KEY, COST), "models (plugin model_access)"),
        ({"budgets": [{"amount_usd": 1}]}, (KEY, MODELS), "budgets (plugin cost)"),
        ({"limits": [{"requests": 1}]}, (KEY, MODELS, COST), "limits (plugin rate_limit)"),
        ({"concurrency": 1, "models": ["x"]}, (KEY,), "models (plugin model_access), concurrency (plugin concurrency)"),
    ],
)
async def test_a_key_is_refused_where_nothing_holds_it_to_what_it_allows(
    http: aiohttp.ClientSession, tmp_path: Path, allowance: Any, plugins: Sequence[Any], missing: str
) -> None:
    async with scene(http, f"sqlite:///{tmp_path}/l.db", *plugins) as there:
        told = await there.issue(allowance=allowance)
        status, body = await there.ask(told.secret)
        assert status == 403
        assert "allowance_not_enforced" in body
        assert missing in body


@pytest.mark.parametrize("where", ["keys", "file"])
async def test_a_config_whose_key_is_not_held_to_what_it_allows_does_not_start(
    http: aiohttp.ClientSession, tmp_path: Path, where: str
) -> None:
    key = {"name": "ops", "digest": key_digest("sg-ops"), "allowance": {"budgets": [{"amount_usd": 1}]}}
    file = tmp_path / "keys.jsonl"
    file.write_text(f'{{"name": "ops", "digest": "{key_digest("x")}", "allowance": {{"concurrency": 1}}}}\n')
    file.chmod(0o600)
    settings = {"keys": [key]} if where == "keys" else {"file": str(file)}
    with pytest.raises(ConfigError, match=r"pipelines\.main\[0\].*nothing further in enforces"):
        async with scene(http, "", {"use": "api_key", "settings": settings}, MODELS):
            pass


@everywhere
async def test_a_key_sees_the_models_it_allows_and_no_others(
    http: aiohttp.ClientSession, tmp_path: Path, dialect: str, stream: bool
) -> None:
    async with scene(http, f"sqlite:///{tmp_path}/l.db") as there:
        told = await there.issue(allowance={"models": ["demo-*"]})
        assert (await there.ask(told.secret, dialect, stream, model="demo-1"))[0] == 200
        assert (await there.ask(told.secret, dialect, stream, model="demo"))[0] == 404
        headers = {"authorization": f"Bearer {told.secret}"}
        async with http.get(f"{there.running.url}/v1/models", headers=headers) as response:
            assert "demo" not in [model["id"] for model in (await response.json())["data"]]
        await there.desk.change(told.key.id, read({"allowance": {"models": None}}, Change))
        assert (await there.ask(told.secret, dialect, stream, model="demo"))[0] == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_racing_calls_never_spend_over_the_budget_of_their_key(
    http: aiohttp.ClientSession, store: Store, stream: bool
) -> None:
    books = Books(7)
    async with scripted(books.answer) as provider:
        real: dict[str, Any] = {
            "providers": {"real": {"dialect": "openai", "base_url": provider.url, "api_key": "k"}},
            "models": {"m": {"provider": "real", "model": "real"}},
        }
        async with scene(http, store.url, **real) as there:
            limit = 100 * (200 * INPUT + 20 * OUTPUT) // 10
            budget = {"amount_usd": f"{limit / 10**9:.9f}", "period": "month"}
            told = await there.issue(allowance={"budgets": [budget]})
            rotated = await there.desk.rotate(told.key.id, Rotate())
            secrets = (told.secret, rotated.secret)  # one id: one budget
            calls = [there.ask(secrets[n % 2], stream=stream, model="m", max_tokens=20) for n in range(60)]
            answers = await asyncio.gather(*calls)
            refused = [body for status, body in answers if status == 429]
            assert 0 < len(refused) < 60
            assert all("insufficient_quota" in body and "key:month" in body for body in refused)
            assert 0 < sum(books.charged) <= limit
            free = await there.issue("free")
            assert await there.status(free.secret, model="m") == 200
            await there.running.service.ledger.flush()
    ((name, subject, spent, held),) = store.rows("SELECT budget, subject, spent, held FROM budgets")
    assert (name, subject, held) == ("key:month", f'["{told.key.id}"]', 0)
    assert 0 < spent <= limit


async def test_budgets_of_a_key_are_told_apart_by_all_there_can_be_one_of(
    http: aiohttp.ClientSession, store: Store
) -> None:
    budgets = [
        {"amount_usd": 1, "period": "day"},
        {"amount_usd": 1, "period": "day", "timezone": "Asia/Tokyo"},
        {"amount_usd": 0, "period": "day", "hard": False},
        {"amount_usd": 1, "period": "week"},
    ]
    async with scene(http, store.url) as there:
        told = await there.issue(allowance={"budgets": budgets})
        async with there.post(told.secret) as response:
            assert response.status == 200
            assert "x-sidegate-budget-remaining-usd" in response.headers
        async with there.post(told.secret) as response:
            assert response.headers["x-sidegate-budget-warning"].startswith("key:day:soft: ")
        await there.running.service.ledger.flush()
    rows = store.rows("SELECT budget, spent, held FROM budgets ORDER BY budget")
    assert [name for name, _, _ in rows] == ["key:day", "key:day:Asia/Tokyo", "key:day:soft", "key:week"]
    assert len({spent for _, spent, _ in rows}) == 1
    assert {held for _, _, held in rows} == {0}


async def test_the_shipped_order_holds_a_key_to_each_thing_it_restricts(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    many = {"limits": [{"name": "all", "requests": 10_000, "period": "minute"}]}
    slots = {"limits": [{"name": "all", "calls": 100}]}
    rates = {"use": "rate_limit", "settings": many}
    plugins = (KEY, MODELS, rates, {"use": "concurrency", "settings": slots}, COST)
    async with scene(http, f"sqlite:///{tmp_path}/l.db", *plugins, providers=SLOW) as there:
        free = await there.issue("free")
        asked = {"models": {"models": ["other"]}, "limit": {"limits": [{"requests": 1, "period": "day"}]}}
        asked |= {"budget": {"budgets": [{"amount_usd": "0.000001"}]}, "slots": {"concurrency": 1}}
        told = {name: await there.issue(name, allowance=allowance) for name, allowance in asked.items()}
        assert await there.status(told["models"].secret) == 404
        assert [await there.status(told["limit"].secret) for _ in range(2)] == [200, 429]
        rotated = await there.desk.rotate(told["limit"].key.id, Rotate())
        assert await there.status(rotated.secret) == 429
        assert await there.status(told["budget"].secret) == 429
        running = asyncio.ensure_future(there.ask(told["slots"].secret, max_tokens=20))
        await until(lambda: any(live.call.attempts for live in there.running.service.live.all()))
        assert await there.status(told["slots"].secret) == 429
        assert (await running)[0] == 200
        assert await there.status(free.secret) == 200


# --- secrets ----------------------------------------------------------------------------------------------------------


async def test_no_secret_is_in_a_log_an_answer_or_the_database(
    http: aiohttp.ClientSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = {"use": "log", "settings": {"bodies": True}}
    async with scene(http, f"sqlite:///{tmp_path}/l.db", log, KEY, MODELS, COST) as there:
        told = await there.issue(allowance={"models": ["demo"], "budgets": [{"amount_usd": "0.000001"}]})
        rotated = await there.desk.rotate(told.key.id, Rotate())
        said = []
        for secret in (told.secret, rotated.secret):
            for more in ({}, {"model": "other"}, {"max_tokens": 10**6}, {"stream": True}):
                said.append((await there.ask(secret, **more))[1])
        await there.desk.revoke(told.key.id)
        said.append((await there.ask(rotated.secret))[1])
        for path in ("/admin/keys", f"/admin/keys/{told.key.id}", "/metrics"):
            async with http.get(there.running.admin_url + path) as response:
                assert response.status == 200
                said.append(await response.text())
        logged = there.running.log.data.decode()
    files = contents(tmp_path)
    for secret in (told.secret, rotated.secret):
        for text in (*said, logged, caplog.text):
            assert secret not in text
            assert key_digest(secret) not in text
        assert secret.encode() not in files


async def test_a_desk_beside_the_gateway_works_on_the_same_keys(http: aiohttp.ClientSession, store: Store) -> None:
    """As the command line does."""
    async with scene(http, store.url) as there:
        keys, clock = keys_of(store.url), HandClock()
        assert clock.now() == EPOCH
        told = await Desk(keys, clock, ListLog(), "cli").issue(Issue(name="ann"))
        await keys.close()
        assert await there.status(told.secret) == 200
