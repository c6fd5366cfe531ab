"""Four gateways, eight hundred calls, one budget: the provider's own books are never over it."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from sidegate.testing import scripted
from tests.replicas.fleet import ask, crowd, fleet
from tests.spending import Books, budgeted, chat
from tests.stores import Store

LIMIT = 12_000_000
"""Nano-USD: enough for about a quarter of the calls."""
BOUND = 1_000_000
"""Nano-USD: one call holds less."""


@pytest.mark.timeout(300)
async def test_replicas_that_race_never_spend_over_a_hard_budget(tmp_path: Path, store: Store) -> None:
    books = Books(seed=1)
    async with scripted(books.answer) as provider:
        budget = {"name": "all", "amount_usd": LIMIT / 10**9, "period": "month"}
        async with fleet(tmp_path, budgeted(budget, url=provider.url), store) as gateways:
            answers = await crowd(gateways, chat())
            await none_held(store)
            # What was held in that moment and was not spent is there for others.
            async with aiohttp.ClientSession(gateways[0].url) as client:
                room = LIMIT - sum(books.charged)
                answers.append(await ask(client, {**chat(), "stream": False}))
                assert answers[-1].whole or room < BOUND
    kinds = Counter((answer.status, answer.code, answer.whole) for answer in answers)
    assert kinds.keys() == {(200, None, True), (429, "insufficient_quota", False)}
    assert kinds[200, None, True] == len(provider.exchanges) == len(books.charged), "a refusal reaches no provider"
    assert sum(books.charged) <= LIMIT
    assert store.rows("SELECT sum(spent), sum(held), sum(overshoot) FROM budgets") == [(sum(books.charged), 0, 0)]
    assert store.rows("SELECT count(*), count(DISTINCT id), sum(cost_nano_usd) FROM calls") == [
        (len(answers), len(answers), sum(books.charged))
    ]
    settled = "SELECT status, count(*) FROM calls WHERE state = 'settled' GROUP BY status ORDER BY status"
    assert store.rows(settled) == [(200, len(books.charged)), (429, len(answers) - len(books.charged))]


async def none_held(store: Store) -> None:
    """Returns when all that is over is settled: that is done in batches."""
    async with asyncio.timeout(30):
        while store.rows("SELECT 1 FROM budgets WHERE held <> 0"):  # noqa: ASYNC110  # another process's doing
            await asyncio.sleep(0.1)
