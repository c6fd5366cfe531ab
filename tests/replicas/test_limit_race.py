"""Four gateways, hundreds of calls, limits in a Redis they share: no provider is asked for more than these."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sidegate.testing import Exchange, scripted
from tests.replicas.fleet import crowd, fleet
from tests.spending import Books, budgeted, chat
from tests.stores import Store, prepared

PERIOD = 31 * 86_400
"""Seconds: so long that less than a token drains while a test runs."""
OUTPUT_TOKENS = 4000
REQUESTS = 300
BUDGET = {"name": "all", "amount_usd": 1, "period": "month"}


class Tokens(Books):
    """And counts the tokens it charges for, and how many calls it has at a time."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, pause=0.005)
        self.tokens = 0
        self.now = 0
        self.most = 0

    async def answer(self, exchange: Exchange) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await super().answer(exchange)
        finally:
            self.now -= 1

    def words(self, most: int) -> int:
        words = super().words(most)
        self.tokens += words
        return words


def limited(url: str, redis_url: str, use: str, *limits: dict[str, Any]) -> Any:
    config = budgeted(BUDGET, url=url)
    config["pipelines"]["main"]["plugins"].insert(0, {"use": use, "settings": {"limits": limits}})
    # Generous: a store that is found slow would be counted without, which is not what is asked here.
    return {**config, "counters": {"url": redis_url, "timeout": 10}}


@pytest.fixture
def kept(postgres_url: str) -> Store:
    return prepared("postgresql", postgres_url)


@pytest.mark.timeout(300)
async def test_replicas_that_race_never_use_more_tokens_than_a_limit_that_takes_the_most(
    tmp_path: Path, kept: Store, redis_url: str
) -> None:
    books = Tokens(seed=1)
    limit = {"name": "tokens", "output_tokens": OUTPUT_TOKENS, "period": PERIOD, "per": [], "estimate": "most"}
    async with scripted(books.answer) as provider:
        async with fleet(tmp_path, limited(provider.url, redis_url, "rate_limit", limit), kept) as gateways:
            answers = await crowd(gateways, chat())
    kinds = Counter((answer.status, answer.code, answer.whole) for answer in answers)
    assert kinds.keys() == {(200, None, True), (429, "rate_limit_exceeded", False)}
    assert kinds[200, None, True] == len(provider.exchanges), "a refusal reaches no provider"
    assert OUTPUT_TOKENS - 20 * len(gateways) * 20 < books.tokens <= OUTPUT_TOKENS, "nor is room for others withheld"
    ledger = kept.rows("SELECT count(*), sum(output_tokens), sum(cost_nano_usd) FROM calls")
    assert ledger == [(len(answers), books.tokens, sum(books.charged))]


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_replicas_that_race_let_through_exactly_as_many_calls_as_the_limit(
    tmp_path: Path, kept: Store, redis_url: str
) -> None:
    books = Tokens(seed=2)
    limit = {"name": "calls", "requests": REQUESTS, "period": PERIOD, "per": []}
    async with scripted(books.answer) as provider:
        async with fleet(tmp_path, limited(provider.url, redis_url, "rate_limit", limit), kept) as gateways:
            answers = await crowd(gateways, chat(), calls=100)
    assert Counter(answer.status for answer in answers) == {200: REQUESTS, 429: len(answers) - REQUESTS}
    assert len(provider.exchanges) == REQUESTS


@pytest.mark.timeout(300)
async def test_replicas_that_race_never_have_more_calls_at_a_time_than_there_are_slots(
    tmp_path: Path, kept: Store, redis_url: str
) -> None:
    books = Tokens(seed=3)
    limit = {"name": "slots", "calls": 7, "per": [], "queue": 30, "wait": 60}
    async with scripted(books.answer) as provider:
        async with fleet(tmp_path, limited(provider.url, redis_url, "concurrency", limit), kept) as gateways:
            answers = await crowd(gateways, chat(), calls=30)
    kinds = Counter((answer.status, answer.code) for answer in answers)
    assert kinds.keys() == {(200, None), (429, "concurrency_limit_exceeded")}
    assert kinds[200, None] == len(provider.exchanges)
    assert 1 < books.most <= 7
