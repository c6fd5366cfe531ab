"""The ground of tests of the admin listener: a gateway with callers, and somebody who administers it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import aiohttp

from sidegate.testing import Running, demo_config, gateway

KEY = "an-admin-key-of-32-characters-00"
ADMIN = {"Authorization": f"Bearer {KEY}"}
CALLERS = ("ann", "bob")
PRICES = {"demo*": {"input": "1", "output": "2"}}
SLOW: dict[str, Any] = {"dialect": "demo", "settings": {"tokens_per_second": 5, "first_token": 0}}


def config(*plugins: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    """Callers ann and bob, priced; `slow` is a model that takes its time."""
    keys = [{"name": name, "digest": sha256(name.encode()).hexdigest(), "team": "blue"} for name in CALLERS]
    base = [{"use": "api_key", "settings": {"keys": keys}}, {"use": "cost", "settings": {"prices": PRICES}}]
    listen = {"port": 0, "openapi": True}
    made = demo_config(*base, *plugins, **{"admin": {"port": 0, "key": KEY}, "listen": listen, **rest})
    made["providers"]["slow"] = SLOW
    made["models"]["slow"] = {"provider": "slow", "model": "demo"}
    return made


class Desk:
    """Who calls and who administers."""

    def __init__(self, running: Running, http: aiohttp.ClientSession) -> None:
        self.running = running
        self.http = http

    async def says(self, caller: str = "ann", *, status: int = 200, **fields: Any) -> str:
        """One call; gives its id."""
        body = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], **fields}
        url = self.running.url + "/v1/chat/completions"
        async with self.http.post(url, json=body, headers={"Authorization": f"Bearer {caller}"}) as reply:
            said = await reply.read()
            assert reply.status == status, said
        return reply.headers["x-request-id"]

    @asynccontextmanager
    async def streaming(self, caller: str = "ann") -> AsyncIterator[aiohttp.ClientResponse]:
        """A call that has begun, and goes on for long."""
        body = {"model": "slow", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        url = self.running.url + "/v1/chat/completions"
        async with self.http.post(url, json=body, headers={"Authorization": f"Bearer {caller}"}) as reply:
            await reply.content.readline()
            yield reply

    async def asks(self, path: str, status: int = 200, method: str = "GET", **given: Any) -> Any:
        """What the admin listener says."""
        url = f"{self.running.admin_url}{path}"
        async with self.http.request(method, url, headers=ADMIN, **given) as reply:
            found = await reply.json(content_type=None)
            assert reply.status == status, found
            if status == 200:
                assert reply.headers["Cache-Control"] == "no-store"
            else:
                assert reply.content_type == "application/problem+json"
            return found

    async def rows(self, path: str) -> list[Any]:
        """The rows of a list."""
        found = await self.asks(path)
        assert found["object"] == "list"
        return list(found["data"])


@asynccontextmanager
async def administered(made: Mapping[str, Any]) -> AsyncIterator[Desk]:
    """A gateway of this config."""
    async with gateway(made) as running, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Desk(running, http)


async def until(found: Callable[[], Awaitable[Any]]) -> Any:
    """What `found` gives, once it is true; ten seconds at most."""
    for _ in range(1000):
        if said := await found():
            return said
        await asyncio.sleep(0.01)
    raise TimeoutError
