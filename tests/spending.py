"""What tests of money share: a provider that keeps its own books, and the ledger's side of them."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from sidegate.testing import Exchange
from tests.relaying import DONE, ROLE, STOP, delta, event, leads_to

INPUT, OUTPUT = 1000, 2000
"""Nano-USD per token."""
PRICES = {"real": {"input": 1, "output": 2}}


class Books:
    """A provider that answers with as many tokens as it likes, up to what it may, and writes down what it charges."""

    def __init__(self, seed: int, pause: float = 0.0) -> None:
        self.random = Random(seed)
        self.pause = pause
        self.charged: list[int] = []
        """Nano-USD, by reply that was told whole with its usage."""
        self.begun = 0
        """Nano-USD of all requests that came, by the most a reply to them is charged."""

    def words(self, most: int) -> int:
        """How many tokens a reply is."""
        return self.random.randint(0, most)

    async def answer(self, exchange: Exchange) -> None:
        asked = exchange.json
        words = self.words(asked["max_tokens"])
        usage = {"prompt_tokens": len(exchange.body) // 5, "completion_tokens": words}
        cost = usage["prompt_tokens"] * INPUT + words * OUTPUT
        self.begun += cost
        if asked.get("stream"):
            await exchange.head(Transfer_Encoding="chunked")
            for piece in (ROLE, *[delta(content="word ")] * 4):
                await exchange.chunk(piece)
                await asyncio.sleep(self.pause)
            told = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "real-1", "choices": []}
            for piece in (STOP, event({**told, "usage": usage}), DONE):
                await exchange.chunk(piece)
            await exchange.chunk(b"")
        else:
            await asyncio.sleep(self.pause)
            choice = {"index": 0, "message": {"role": "assistant", "content": "word"}, "finish_reason": "stop"}
            body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "real-1", "choices": [choice]}
            await exchange.reply(msgspec.json.encode({**body, "usage": usage}))
        self.charged.append(cost)


def budgeted(*budgets: dict[str, Any], url: str = "http://127.0.0.1:9", prices: Any = PRICES, **rest: Any) -> Any:
    """A config whose model `m` leads to `url`, under these budgets."""
    settings = {"prices": prices, "budgets": list(budgets), **rest.pop("settings", {})}
    return leads_to(url, plugins=({"use": "cost", "settings": settings},), **rest)


def chat(stream: bool = False, max_tokens: int | None = 20, model: str = "m", **more: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "Say something."}], "stream": stream, **more}
    return body if max_tokens is None else {**body, "max_tokens": max_tokens}


def totals(path: Path) -> tuple[int, int, int]:
    """Spent, held and overshoot of all budgets."""
    with closing(sqlite3.connect(path)) as file:
        row: tuple[int, int, int] = file.execute(
            "SELECT coalesce(sum(spent), 0), coalesce(sum(held), 0), coalesce(sum(overshoot), 0) FROM budgets"
        ).fetchone()
    return row


def settled(path: Path) -> tuple[int, int]:
    """The cost of all calls whose cost is known, and how many calls there are whose cost is not."""
    with closing(sqlite3.connect(path)) as file:
        row: tuple[int, int] = file.execute(
            "SELECT coalesce(sum(cost_nano_usd), 0), sum(cost_nano_usd IS NULL) FROM calls"
        ).fetchone()
    return row
