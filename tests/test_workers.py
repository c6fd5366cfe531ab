"""Several workers: real processes on one port, their supervisor, and what it refuses."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidegate.cli import main
from sidegate.contract import Plugin
from sidegate.testing import Exchange, ScriptedProvider, demo_config, scripted
from tests.certificates import Authority
from tests.relaying import DONE, ROLE, STOP, answers, chat, delta, leads_to
from tests.spending import Books, budgeted
from tests.supervised import (
    Supervised,
    calls_of,
    command,
    eventually,
    gone,
    in_flight,
    one_connection_a_call,
    refused,
    spare_ports,
    status,
    supervised,
    written,
)

CHAT = "/v1/chat/completions"
both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])


async def asks(http: aiohttp.ClientSession, there: Supervised, stream: bool = False) -> int:
    async with http.post(there.url + CHAT, json=chat(stream)) as reply:
        await reply.read()
        return reply.status


# --- serving ----------------------------------------------------------------------------------------------------------


async def test_calls_spread_over_the_workers_and_every_one_is_on_record(tmp_path: Path) -> None:
    async with scripted(answers) as provider, supervised(tmp_path, leads_to(provider.url)) as there:
        assert len(there.admins) == len(there.pids()) == 3
        asked = 0
        async with one_connection_a_call() as http, asyncio.timeout(60):
            while not all([await calls_of(http, admin) for admin in there.admins]):
                statuses = await asyncio.gather(*(asks(http, there, stream=bool(n % 2)) for n in range(20)))
                assert set(statuses) == {200}
                asked += 20
            by_worker = [await calls_of(http, admin) for admin in there.admins]
        assert await there.stop() == 0
        assert sum(by_worker) == asked
        assert there.rows("SELECT count(*), sum(input_tokens), ending FROM calls GROUP BY ending") == [
            (asked, 7 * asked, "complete")
        ]


async def test_racing_workers_never_overspend_a_hard_budget(tmp_path: Path) -> None:
    books = Books(7)
    async with scripted(books.answer) as provider:
        budget = {"name": "all", "amount_usd": "0.002"}
        async with supervised(tmp_path, budgeted(budget, url=provider.url)) as there:
            async with one_connection_a_call() as http:
                replies = await asyncio.gather(
                    *(http.post(there.url + CHAT, json=chat(bool(n % 2), max_tokens=40)) for n in range(90))
                )
                statuses = [reply.status for reply in replies]
                await asyncio.gather(*(reply.read() for reply in replies))
            assert await there.stop() == 0
            assert set(statuses) == {200, 429}
            ((spent, held),) = there.rows("SELECT spent, held FROM budgets")
            assert (spent, held) == (sum(books.charged), 0)
            assert spent <= 2_000_000


async def test_a_first_key_is_made_once_and_told_once(tmp_path: Path) -> None:
    keys = {"use": "api_key", "settings": {"file": "keys.jsonl", "first_key": True}}
    async with supervised(tmp_path, demo_config(keys)) as there:
        secret = (there.state / "first.key").read_text().strip()
        assert len((there.state / "keys.jsonl").read_text().splitlines()) == 1
        async with one_connection_a_call() as http:
            for _ in range(12):
                async with http.get(there.url + "/v1/models", headers={"x-api-key": secret}) as reply:
                    assert reply.status == 200
        assert await there.stop() == 0
        assert there.process.stderr is not None
        said = "\n".join(there.said) + (await there.process.stderr.read()).decode()
        assert said.count(secret) == 1


async def test_workers_speak_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    config = demo_config(listen={"port": 0, "tls": authority.tls()}, workers=2)
    async with supervised(tmp_path, config) as there:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=authority.context())) as http:
            async with http.get(there.url + "/readyz") as reply:
                assert (reply.status, there.url[:8]) == (200, "https://")


async def test_the_command_line_says_how_many_and_each_has_the_next_admin_port(tmp_path: Path) -> None:
    first = spare_ports(2)
    async with supervised(tmp_path, demo_config(admin={"port": first}), "--workers", "2") as there:
        assert [int(admin.rpartition(":")[2]) for admin in there.admins] == [first, first + 1]
        async with one_connection_a_call() as http:
            for admin in there.admins:
                assert await status(http, admin + "/readyz") == 200


# --- stopping ---------------------------------------------------------------------------------------------------------


class Gate:
    """A provider whose streams end when it is told."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def answer(self, exchange: Exchange) -> None:
        if exchange.json.get("stream"):
            await exchange.head(Transfer_Encoding="chunked")
            await exchange.chunk(ROLE + delta(content="x"))
            await self.open.wait()
            await exchange.chunk(STOP + DONE)
            await exchange.chunk(b"")
        else:
            await self.open.wait()
            await answers(exchange)


async def busy(http: aiohttp.ClientSession, there: Supervised, stream: bool) -> list[asyncio.Task[Any]]:
    """Calls, until every worker has one in flight."""

    async def asks() -> aiohttp.ClientResponse:
        return await http.post(there.url + CHAT, json=chat(stream))

    asking: list[asyncio.Task[Any]] = []

    async def all_have() -> bool:
        asking.append(asyncio.create_task(asks()))
        return all([await in_flight(http, admin) for admin in there.admins])

    await eventually(all_have)
    return asking


async def draining(http: aiohttp.ClientSession, there: Supervised) -> None:
    for admin in there.admins:

        async def drains(url: str = admin + "/readyz") -> bool:
            return await status(http, url) == 503

        await eventually(drains)


@both
@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
async def test_calls_in_flight_finish_on_every_worker_and_new_ones_are_refused(
    tmp_path: Path, stream: bool, how: str
) -> None:
    gate = Gate()
    config = {"server": {"drain": 60}}
    async with scripted(gate.answer) as provider, supervised(tmp_path, {**leads_to(provider.url), **config}) as there:
        pids = there.pids()
        async with one_connection_a_call() as http:
            asking = await busy(http, there, stream)
            await eventually(partial(reached, provider, len(asking)))
            if how == "SIGTERM":
                there.process.send_signal(signal.SIGTERM)
            else:
                os.killpg(there.process.pid, signal.SIGINT)
            await draining(http, there)
            for _ in range(6):
                async with http.post(there.url + CHAT, json=chat(stream)) as reply:
                    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
            gate.open.set()
            replies = await asyncio.gather(*asking)
            texts = await asyncio.gather(*(reply.text() for reply in replies))
        assert {reply.status for reply in replies} == {200}
        assert all(("[DONE]" in text) is stream for text in texts)
        assert await there.ended() == 0
        await gone(pids)
        assert await there.counts("ending = 'complete'", len(asking))


async def reached(provider: ScriptedProvider, count: int) -> bool:
    return len(provider.exchanges) == count


async def test_somebody_who_cannot_wait_signals_again(tmp_path: Path) -> None:
    gate = Gate()
    config = {"server": {"drain": 600}, "workers": 2}
    async with scripted(gate.answer) as provider, supervised(tmp_path, {**leads_to(provider.url), **config}) as there:
        async with one_connection_a_call() as http:
            asking = await busy(http, there, True)
            replies = await asyncio.gather(*asking)
            there.process.send_signal(signal.SIGTERM)
            await draining(http, there)
            there.process.send_signal(signal.SIGTERM)
            texts = await asyncio.gather(*(reply.text() for reply in replies))
        assert all('"code":"gateway_stopping"' in text and "[DONE]" not in text for text in texts)
        assert await there.ended() == 0


async def test_workers_of_a_supervisor_that_was_killed_drain_and_end(tmp_path: Path) -> None:
    gate = Gate()
    config = {"server": {"drain": 60}, "workers": 2}
    async with scripted(gate.answer) as provider, supervised(tmp_path, {**leads_to(provider.url), **config}) as there:
        pids = there.pids()
        async with one_connection_a_call() as http:
            replies = await asyncio.gather(*await busy(http, there, True))
            there.process.kill()
            await draining(http, there)
            gate.open.set()
            for reply in replies:
                assert "[DONE]" in await reply.text()
        await gone(pids)
        assert await there.counts("ending = 'complete'", len(replies))


# --- dying ------------------------------------------------------------------------------------------------------------


async def test_a_worker_that_is_killed_comes_back_and_the_others_serve_meanwhile(tmp_path: Path) -> None:
    config = demo_config(admin={"port": spare_ports(3)}, models={"m": {"provider": "demo"}})
    async with supervised(tmp_path, config) as there, one_connection_a_call() as http:
        before = there.pids()
        # What stands in the file now is for the next start of all: a worker that comes back is like the others.
        written(tmp_path, {**config, "models": {}, "workers": 7})
        os.kill(before[1], signal.SIGKILL)
        for _ in range(12):
            assert await asks(http, there) == 200
        await eventually(partial(there.told, "worker_started"))
        (died,), (started,) = there.events("worker_died"), there.events("worker_started")
        assert (died["exit_code"], died["worker"]) == (-9, started["worker"])
        again = there.admins[started["worker"]]
        assert await status(http, again + "/readyz") == 200
        after = there.pids()
        assert len(after) == 3
        assert set(before) & set(after) == set(before) - {before[1]}

        async def serves_again() -> int:
            assert set(await asyncio.gather(*(asks(http, there) for _ in range(10)))) == {200}
            return await calls_of(http, again)

        await eventually(serves_again)
        assert await there.stop() == 0


async def test_a_killed_workers_calls_are_found_by_the_others(tmp_path: Path) -> None:
    gate = Gate()
    async with scripted(gate.answer) as provider:
        config = {**leads_to(provider.url), "workers": 2}
        async with supervised(tmp_path, config) as there, one_connection_a_call() as http:
            replies = [await http.post(there.url + CHAT, json=chat(True)) for _ in range(8)]
            await eventually(partial(there.counts, "state = 'reserved'", 8))
            owned = "SELECT owners.pid, count(*) FROM calls JOIN owners ON owners.id = calls.owner GROUP BY 1"
            victim, lost = there.rows(owned)[0]
            assert victim in there.pids()
            os.kill(victim, signal.SIGKILL)
            await eventually(partial(there.counts, "error = 'gateway_killed'", lost))
            gate.open.set()
            ends = await asyncio.gather(*(reply.text() for reply in replies), return_exceptions=True)
            assert len([end for end in ends if isinstance(end, str) and "[DONE]" in end]) == 8 - lost
            assert await there.stop() == 0
            assert await there.counts("ending = 'complete'", 8 - lost)


# --- not starting -----------------------------------------------------------------------------------------------------


async def test_where_one_worker_cannot_start_none_is_left(tmp_path: Path) -> None:
    first = spare_ports(3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first + 2))
        taken.listen()
        listen = spare_ports(1)
        config = demo_config(listen={"port": listen}, admin={"port": first})
        code, said = await refused(tmp_path, config)
    assert code == 2
    assert said.startswith(f"admin: cannot listen on 127.0.0.1:{first + 2}: ")
    assert said.endswith("ddress already in use\n")
    assert len(said.splitlines()) == 1
    with socket.socket() as free:
        free.bind(("127.0.0.1", listen))


async def test_a_start_that_takes_for_ever_can_be_stopped(tmp_path: Path) -> None:
    config = demo_config({"use": f"{__name__}:Endless"})
    path = written(tmp_path, config)
    process = await asyncio.create_subprocess_exec(
        *command(path), cwd=Path(__file__).parent.parent, stdout=-3, stderr=-3
    )
    await eventually(partial(exists, tmp_path / "state" / "begun"))
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        assert await process.wait() == 0


async def exists(path: Path) -> bool:
    return path.exists()  # noqa: ASYNC240


class Endless(Plugin[None]):
    """Never starts."""

    async def start(self) -> None:
        (self.host.state / "begun").touch()
        await asyncio.Event().wait()


async def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert await refused(tmp_path, demo_config(listen={"port": port})) == (
            2,
            f"listen: cannot listen on 127.0.0.1:{port}: Address already in use\n",
        )


IDEMPOTENCY = demo_config({"use": "idempotency"})
RATES = demo_config({"use": "rate_limit", "settings": {"limits": [{"name": "a", "requests": 5, "period": "minute"}]}})
SLOTS = demo_config({"use": "concurrency", "settings": {"limits": [{"name": "a", "calls": 5}]}})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (IDEMPOTENCY, "pipelines.main[0]: replies are kept by one process"),
        (RATES, "pipelines.main[0]: "),
        (SLOTS, "pipelines.main[0]: "),
        (demo_config(ledger={"url": ""}), "ledger.url: is needed with several workers"),
        (demo_config(admin={"port": 65_534}), "admin.port: leaves no ports for 3 workers"),
        (demo_config(listen={"port": 8090}, admin={"port": 8088}), "admin: listens where `listen` does, on port 8090"),
        (demo_config(workers=65), "workers: Expected int <= 64"),
        (demo_config(workers=0), "workers: Expected int >= 1"),
    ],
    ids=["idempotency", "rate_limit", "concurrency", "ledger", "admin ports", "ports overlap", "many", "none"],
)
async def test_what_would_not_hold_across_workers_is_refused_by_check_and_start(
    tmp_path: Path, config: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = await refused(tmp_path, config)
    assert code == 2
    assert told.startswith(said)
    assert len(told.splitlines()) == 1
    assert main(["check", str(written(tmp_path, config))]) == 2
    assert capsys.readouterr().err == told
    if config.get("workers") is None and "ports" not in said and "listens" not in said:
        assert main(["check", str(written(tmp_path, {**config, "workers": 1}))]) == 0
        assert main(["check", str(tmp_path / "config.json"), "--workers", "3"]) == 2
