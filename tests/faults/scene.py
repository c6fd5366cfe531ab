"""A gateway with a store that is going to fail, a provider that keeps its own books, and what must hold of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from sidegate.contract import Clock
from sidegate.testing import Exchange, gateway, scripted
from tests.crash.killing import Killable
from tests.relaying import DONE, ROLE, STOP, delta, event
from tests.spending import INPUT, OUTPUT, budgeted
from tests.stores import Store

BUDGET = {"name": "all", "amount_usd": 1000, "period": "month"}
HELD = "m-held"
"""Models that begin so are answered when the test says so, in mid-stream until then."""


class Books:
    """A provider that charges for each request as it comes, by the model that was asked for."""

    def __init__(self) -> None:
        self.charged: dict[str, int] = {}
        self.go_on = asyncio.Event()

    async def answer(self, exchange: Exchange) -> None:
        marker = exchange.json["messages"][0]["content"]
        assert marker not in self.charged, "the provider was asked twice"
        usage = {"prompt_tokens": 7, "completion_tokens": 3 + len(self.charged) % 40}
        self.charged[marker] = usage["prompt_tokens"] * INPUT + usage["completion_tokens"] * OUTPUT
        await exchange.head(Transfer_Encoding="chunked")
        for piece in (ROLE, delta(content="half ")):
            await exchange.chunk(piece)
        if marker.startswith(HELD):
            await self.go_on.wait()
        told = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-1", "choices": []}
        for piece in (delta(content="whole"), STOP, event({**told, "usage": usage}), DONE, b""):
            await exchange.chunk(piece)


@dataclass
class Told:
    """What a client was told."""

    marker: str
    status: int
    body: bytes

    @property
    def whole(self) -> bool:
        return self.status == 200 and b"whole" in self.body and self.body.endswith(DONE)

    @property
    def code(self) -> str | None:
        return None if self.status == 200 else str(msgspec.json.decode(self.body)["error"]["code"])


@dataclass
class Scene:
    """The gateway, the provider's books, a client, and what it asked for."""

    url: str
    admin_url: str
    books: Books
    http: aiohttp.ClientSession
    store: Store
    asked: dict[str, Told] = field(default_factory=dict)
    _begun: list[asyncio.Task[Told]] = field(default_factory=list)

    async def ask(self, marker: str, begun: asyncio.Event | None = None) -> Told:
        """One streamed call. `begun` is set when its first words have come."""
        messages = [{"role": "user", "content": marker}]
        body = {"model": marker, "messages": messages, "stream": True, "max_tokens": 50}
        async with self.http.post(self.url + "/v1/chat/completions", json=body) as reply:
            said = b""
            async for piece in reply.content.iter_any():
                said += piece
                if begun is not None and b"half" in said:
                    begun.set()
            told = self.asked[marker] = Told(marker, reply.status, said)
            return told

    async def hold(self, count: int) -> None:
        """So many streams in the middle, from now on until `release`."""
        for number in range(count):
            begun = asyncio.Event()
            self._begun.append(asyncio.create_task(self.ask(f"{HELD}-{number}", begun)))
            async with asyncio.timeout(20):
                await begun.wait()

    async def release(self) -> None:
        """They go on, to their ends."""
        self.books.go_on.set()
        async with asyncio.timeout(20):
            for told in await asyncio.gather(*self._begun):
                assert told.whole, told

    async def ready(self) -> bool:
        async with self.http.get(f"{self.admin_url}/readyz") as reply:
            return reply.status == 200

    async def well(self) -> None:
        """Returns when calls are taken again and all that ended is on record."""
        async with asyncio.timeout(60):
            while not await self.ready() or not self._recorded():  # noqa: ASYNC110  # nobody announces it
                await asyncio.sleep(0.05)

    def _recorded(self) -> bool:
        over = {row[0] for row in self.store.rows("SELECT model_asked FROM calls WHERE state <> 'reserved'")}
        held = self.store.rows("SELECT 1 FROM budgets WHERE held <> 0")
        return not held and over >= {marker for marker, told in self.asked.items() if told.whole}

    def check_books(self) -> None:
        """Nothing is lost and nothing doubled: of each call that reached the provider there is one row with its cost,
        of each that was refused there is none with a cost, and the budget is what was spent. Of many that are refused
        while nothing can be written not all are on record."""
        rows = self.store.rows("SELECT model_asked, state, cost_nano_usd, status FROM calls")
        by_marker = {row[0]: row[1:] for row in rows}
        assert len(by_marker) == len(rows), "a call is on record twice"
        assert by_marker.keys() <= self.asked.keys()
        for marker, told in self.asked.items():
            if told.whole:
                assert by_marker[marker] == ("settled", self.books.charged[marker], 200)
            else:
                assert marker not in self.books.charged, "a call that is refused reaches no provider"
                assert by_marker.get(marker, ("settled", 0, told.status)) == ("settled", 0, told.status)
        attempts = self.store.rows("SELECT call_id, number FROM attempts WHERE cost_nano_usd > 0")
        assert len(attempts) == len(self.books.charged)
        sums = self.store.rows("SELECT sum(spent), sum(held), sum(overshoot) FROM budgets")
        assert sums == [(sum(self.books.charged.values()), 0, 0)]


def a_config(provider: str, *plugins: Mapping[str, Any], **config: Any) -> dict[str, Any]:
    """Every model that begins with `m-` leads to this provider, under a budget that has room for all."""
    filled: dict[str, Any] = {**budgeted(BUDGET, url=provider), **config}
    filled["providers"]["p0"]["timeouts"] = {"idle": 600}
    filled["models"] = {"m-*": [{"provider": "p0", "model": "real"}]}
    filled["pipelines"]["main"]["plugins"] = [*plugins, *filled["pipelines"]["main"]["plugins"]]
    return filled


@asynccontextmanager
async def scene(
    store: Store, *plugins: Mapping[str, Any], url: str = "", clock: Clock | None = None, **config: Any
) -> AsyncIterator[Scene]:
    """A gateway in this process with its ledger at `url`, which leads to `store`."""
    books = Books()
    ledger = {"url": url or store.url, "batch_seconds": 0.05, **config.pop("ledger", {})}
    async with scripted(books.answer) as provider:
        filled = a_config(provider.url, *plugins, ledger=ledger, **config)
        async with gateway(filled, clock=clock) as running, aiohttp.ClientSession() as http:
            yield Scene(running.url, running.admin_url, books, http, store)


@asynccontextmanager
async def apart(directory: Path, store: Store) -> AsyncIterator[tuple[Scene, Killable]]:
    """The same with the gateway as a process of its own, which can be done things to that nobody would to this one."""
    books = Books()
    async with scripted(books.answer) as provider:
        process = Killable(directory, a_config(provider.url, ledger={"batch_seconds": 0.05}), store)
        await process.start()
        try:
            async with aiohttp.ClientSession() as http:
                yield Scene(process.url, process.admin_url, books, http, store), process
            await process.stop()
        finally:
            process.kill()
