"""What tests of reloads share: a gateway with a config in a file, and a provider that says what a test hands it."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from sidegate.config import read_config
from sidegate.contract.host import Clock, SystemClock
from sidegate.gateway import Gateway
from sidegate.telemetry.logs import JsonLog
from sidegate.testing import Exchange, KeptLog, Running
from tests.relaying import DONE, ROLE, STOP, delta
from tests.reload.plugins import Mortal, lives

MORTAL = "tests.reload.plugins:Mortal"


class Site:
    """A gateway whose config is in a file, and somebody who asks it."""

    def __init__(self, running: Running, http: aiohttp.ClientSession, path: Path, config: dict[str, Any]) -> None:
        self.running = running
        self.http = http
        self.path = path
        self.config = config
        self.mark: str = config.get("mark", "")

    @property
    def url(self) -> str:
        return self.running.url

    @property
    def number(self) -> int:
        """Which config is in force."""
        return self.running.service.number

    def lives(self) -> list[Mortal]:
        return lives(self.mark)

    def write(self, **changed: Any) -> None:
        """The config as it was, but for these parts."""
        write(self.path, {**self.config, **changed})

    async def reload(self, status: int = 200, **headers: str) -> Any:
        async with self.http.post(self.running.admin_url + "/admin/reload", headers=headers) as reply:
            assert reply.status == status, await reply.text()
            return await reply.json(content_type=None)

    async def ask(self, path: str = "/v1/chat/completions", **more: Any) -> tuple[int, str, Mapping[str, str]]:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
        async with self.http.post(self.url + path, json=body) as reply:
            return reply.status, await reply.text(), reply.headers


def write(path: Path, config: Mapping[str, Any]) -> None:
    """In one step, as an editor does."""
    aside = path.with_name("." + secrets.token_hex(4))
    aside.write_bytes(msgspec.json.encode({name: part for name, part in config.items() if name != "mark"}))
    os.replace(aside, path)


def mortal(mark: str, **settings: Any) -> dict[str, Any]:
    return {"use": MORTAL, "settings": {"of": mark, **settings}}


def config_of(folder: Path, provider: str = "", *plugins: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Leads model `m` to the provider, or to the demo, through a plugin that counts."""
    mark = secrets.token_hex(8)
    said: dict[str, Any] = {"dialect": "demo", "settings": {"tokens_per_second": 0, "first_token": 0}}
    if provider:
        said = {"dialect": "openai", "base_url": provider, "api_key": "sk-upstream-secret", "circuit": None}
    return {
        "mark": mark,
        "listen": {"port": 0},
        "admin": {"port": 0},
        "state": str(folder / "state"),
        "providers": {"p": said},
        "models": {"m": {"provider": "p"}},
        "pipelines": {"main": {"plugins": [mortal(mark), *plugins]}},
        "server": {"drain": 5},
        "reload": {"timeout": 10},
        **more,
    }


@asynccontextmanager
async def site(config: dict[str, Any], folder: Path, clock: Clock | None = None) -> AsyncIterator[Site]:
    path = folder / "sidegate.json"
    write(path, config)
    kept = KeptLog()
    made = Gateway(read_config(path, os.environ), JsonLog(kept, clock or SystemClock()), clock)
    await made.start()
    try:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
            yield Site(Running(made, kept), http, path, config)
    finally:
        await made.stop()


class Told:
    """A provider whose streams say what a test tells them to, each as often as it is told."""

    def __init__(self) -> None:
        self.streams: dict[str, asyncio.Queue[str | None]] = {}

    async def __call__(self, exchange: Exchange) -> None:
        name = exchange.json["messages"][0]["content"]
        words = self.streams[name] = asyncio.Queue()
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="begun "))
        while (word := await words.get()) is not None:
            await exchange.chunk(delta(content=word))
        await exchange.chunk(STOP + DONE)
        await exchange.chunk(b"")

    def say(self, word: str) -> None:
        for words in self.streams.values():
            words.put_nowait(word)

    def finish(self, name: str) -> None:
        self.streams.pop(name).put_nowait(None)


async def until(met: Any, seconds: float = 20) -> None:
    """Wait for something that another task does."""
    async with asyncio.timeout(seconds):
        while not met():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
