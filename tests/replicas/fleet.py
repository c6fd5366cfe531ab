"""Gateways as processes that share their stores, and clients that ask all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tests.crash.killing import Killable
from tests.stores import Store

PROCESSES = 4
CALLS = 200
"""By each process."""
CLIENTS = 20
"""Of each process: so many calls of it run at once."""


@dataclass
class Answer:
    """What a client got."""

    status: int
    code: str | None
    """Of an error."""
    whole: bool
    """A reply to its end, with nothing wrong in it."""


@asynccontextmanager
async def fleet(
    directory: Path, config: Mapping[str, Any], store: Store, count: int = PROCESSES
) -> AsyncIterator[list[Killable]]:
    """So many gateways of one config, started together, and stopped in order."""
    gateways = []
    for number in range(count):
        (directory / f"gateway-{number}").mkdir()
        gateways.append(Killable(directory / f"gateway-{number}", config, store))
    try:
        await asyncio.gather(*(gateway.start() for gateway in gateways))
        yield gateways
        await asyncio.gather(*(gateway.stop() for gateway in gateways))
    finally:
        for gateway in gateways:
            gateway.kill()


async def crowd(gateways: list[Killable], body: Mapping[str, Any], calls: int = CALLS) -> list[Answer]:
    """All of them are asked at once, `calls` times each: every other time for a stream."""

    async def client(gateway: Killable, number: int) -> list[Answer]:
        async with aiohttp.ClientSession(gateway.url) as session:
            return [await ask(session, {**body, "stream": turn % 2 == 1}) for turn in range(number, calls, CLIENTS)]

    answers = await asyncio.gather(*(client(gateway, number) for gateway in gateways for number in range(CLIENTS)))
    return [answer for each in answers for answer in each]


async def ask(session: aiohttp.ClientSession, body: Mapping[str, Any]) -> Answer:
    async with session.post("/v1/chat/completions", json=body) as reply:
        said = await reply.read()
        if reply.status != 200:
            return Answer(reply.status, msgspec.json.decode(said)["error"]["code"], whole=False)
        whole = said.endswith(b"data: [DONE]\n\n") if body["stream"] else b'"usage"' in said
        return Answer(200, None, whole)
