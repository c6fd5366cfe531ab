"""`idempotency` and money: what is asked for under one key is charged once, whoever races and where `cost` stands."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from sidegate.testing import Exchange, gateway, scripted
from tests.relaying import leads_to
from tests.spending import PRICES, Books, chat
from tests.stores import Store

IDEMPOTENCY = {"use": "idempotency"}
BUDGET = {"name": "all", "amount_usd": 0.001, "period": "month"}
COST = {"use": "cost", "settings": {"prices": PRICES, "budgets": [BUDGET]}}
RACERS = 20

orders = pytest.mark.parametrize("plugins", [(IDEMPOTENCY, COST), (COST, IDEMPOTENCY)], ids=["outside", "inside"])


async def asked(client: aiohttp.ClientSession, stream: bool, key: str = "k-1", **more: Any) -> int:
    body = chat(stream, **more)
    async with client.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": key}) as reply:
        await reply.read()
        return reply.status


@orders
@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "stream"])
async def test_racing_calls_under_one_key_are_charged_once(
    store: Store, plugins: tuple[dict[str, Any], ...], stream: bool
) -> None:
    """And a budget with room for one such call has room for all that are told its reply."""
    books, everybody = Books(1), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await everybody.wait()
        await books.answer(exchange)

    async with scripted(slow) as provider:
        config = leads_to(provider.url, plugins=plugins, ledger={"url": store.url, "batch_seconds": 0.02})
        async with gateway(config) as running, aiohttp.ClientSession(running.url) as client:
            asking = [asyncio.create_task(asked(client, stream)) for _ in range(RACERS)]
            await under_way(lambda: len(running.service.live) + sum(task.done() for task in asking) == RACERS)
            everybody.set()
            statuses = await asyncio.gather(*asking)
            again = await asked(client, stream)
            other = await asked(client, stream, temperature=0.5)
    assert (again, other) == (200, 422)
    if plugins[0] is IDEMPOTENCY:
        assert statuses == [200] * RACERS
    # Where each call is held before it is known to be told again, so many fit as fit.
    assert set(statuses) <= {200, 429}
    assert len(books.charged) == len(provider.exchanges) == 1
    assert store.rows("SELECT spent, held, overshoot FROM budgets") == [(books.charged[0], 0, 0)]
    assert store.rows("SELECT cost_nano_usd FROM calls WHERE cost_nano_usd > 0") == [(books.charged[0],)]
    assert store.rows("SELECT count(*), count(DISTINCT id) FROM calls") == [(RACERS + 2, RACERS + 2)]


async def under_way(true: Any) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0.005)
