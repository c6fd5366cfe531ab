"""Stopping: a real process under signals, with calls in flight."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from sidegate.testing import Exchange, scripted
from tests.relaying import ROLE, STOP, chat, delta, leads_to


class Served:
    """`sidegate serve` as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, admin: str, state: Path) -> None:
        self.process = process
        self.url = url
        self.admin = admin
        self.state = state

    def endings(self) -> list[str]:
        """What the ledger on disk says, once the process is gone."""
        with sqlite3.connect(self.state / "sidegate.db") as database:
            return [row[0] for row in database.execute("SELECT ending FROM calls WHERE operation = 'chat'")]


@asynccontextmanager
async def serve(directory: Path, provider: str, drain: float) -> AsyncIterator[Served]:
    config = leads_to(
        provider, listen={"port": 0}, admin={"port": 0}, state=str(directory / "state"), server={"drain": drain}
    )
    path = directory / "config.json"
    path.write_bytes(msgspec.json.encode(config))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sidegate", "serve", str(path), stdout=asyncio.subprocess.DEVNULL, stderr=-1
    )
    assert process.stderr is not None
    line = ""
    while "is ready" not in line:
        line = (await process.stderr.readline()).decode()
        assert line, "the gateway did not start"
    url, admin = [word for word in line.replace(")", "").split() if word.startswith("http")]
    try:
        yield Served(process, url, admin, directory / "state")
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()


async def begun(reply: aiohttp.ClientResponse) -> bytes:
    """The first bytes of a stream: from here on it is committed."""
    return await reply.content.readany()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_running_calls_finish_and_new_ones_are_refused(
    http: aiohttp.ClientSession, tmp_path: Path, number: signal.Signals
) -> None:
    finish = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="x"))
        await finish.wait()
        await exchange.chunk(STOP)
        await exchange.chunk(b"")

    async with scripted(slow) as provider, serve(tmp_path, provider.url, drain=30) as served:
        async with http.post(served.url + "/v1/chat/completions", json=chat(True)) as reply:
            await begun(reply)
            served.process.send_signal(number)
            await turns(http, served.admin + "/readyz", 503)
            async with http.post(served.url + "/v1/chat/completions", json=chat(True)) as refused:
                assert refused.status == 503
                assert refused.headers["Retry-After"] == "1"
                assert (await refused.json())["error"]["code"] == "gateway_stopping"
            finish.set()
            assert (await reply.read()).endswith(b"data: [DONE]\n\n")
        async with asyncio.timeout(10):
            assert await served.process.wait() == 0
        assert served.endings() == ["complete"]


async def turns(http: aiohttp.ClientSession, url: str, status: int) -> None:
    async with asyncio.timeout(5):
        while True:
            async with http.get(url) as reply:
                if reply.status == status:
                    return


async def never(exchange: Exchange) -> None:
    await exchange.head(Transfer_Encoding="chunked")
    await exchange.chunk(ROLE + delta(content="x"))
    await exchange.closed.wait()


@pytest.mark.parametrize("signals", [1, 2], ids=["deadline", "second signal"])
async def test_what_outlasts_the_drain_gets_an_error_event_and_is_on_record(
    http: aiohttp.ClientSession, tmp_path: Path, signals: int
) -> None:
    drain = 0.5 if signals == 1 else 60
    async with scripted(never) as provider, serve(tmp_path, provider.url, drain=drain) as served:
        replies = [await http.post(served.url + "/v1/chat/completions", json=chat(True)) for _ in range(20)]
        for reply in replies:
            await begun(reply)
        for _ in range(signals):
            served.process.send_signal(signal.SIGTERM)
            await turns(http, served.admin + "/readyz", 503) if signals == 2 and _ == 0 else None
        texts = await asyncio.gather(*(reply.text() for reply in replies))
        async with asyncio.timeout(10):
            assert await served.process.wait() == 0
        assert all('"code":"gateway_stopping"' in text and "[DONE]" not in text for text in texts)
        assert served.endings() == ["gateway_stopping"] * 20
        assert all(exchange.closed.is_set() for exchange in provider.exchanges)
