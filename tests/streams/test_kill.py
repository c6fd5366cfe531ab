"""kill -9 of a gateway in the middle of streams: another has what was copied, and says that the rest is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from sidegate.testing import scripted
from tests.crash.killing import Killable
from tests.jobs.ground import ANN, PATH, WORDS, Event, Told, body, config, cut, events, text_of
from tests.stores import Store

HEADERS = {"Authorization": f"Bearer {ANN}"}


def gateway_in(folder: Path, url: str, store: str) -> Killable:
    folder.mkdir()
    route = {"name": "r", "pipeline": "main", "resumable": True}
    made = {**config(url), "jobs": None, "routes": [route], "counters": {"url": store}}
    return Killable(folder, made, Store("sqlite", f"sqlite:///{folder}/ledger.db"))


async def test_what_a_killed_gateway_has_said_is_told_by_another_once_and_its_end_is_an_error(
    tmp_path: Path, redis_url: str
) -> None:
    told = Told()
    async with scripted(told) as provider:
        one, two = (gateway_in(tmp_path / name, provider.url, redis_url) for name in ("one", "two"))
        await asyncio.gather(one.start(), two.start())
        try:
            told.go(len(WORDS) - 1)
            async with (
                aiohttp.ClientSession(one.url, headers=HEADERS) as client,
                client.post(PATH, json=body()) as reply,
            ):
                where = reply.headers["Content-Location"]
                first = await cut(reply, 3)
            async with aiohttp.ClientSession(two.url, headers=HEADERS) as client:
                await told_all(client, where, len(WORDS))
                one.kill()
                await one.gone()
                last = await rest(client, where, first[-1].id)
                assert text_of([*first, *last[:-1]]) == "".join(WORDS[:-1]), "all that was said, each word once"
                assert "stream_lost" in last[-1].data
                async with client.get(where) as reply:
                    assert reply.status == 404
        finally:
            one.kill()
            await two.stop()


async def told_all(client: aiohttp.ClientSession, where: str, count: int) -> None:
    """Until so many events are known there."""
    async with asyncio.timeout(20):
        while True:
            async with client.get(where) as reply:
                if reply.status == 200:
                    seen = b""
                    while seen.count(b"data: ") < count:
                        seen += await reply.content.readany()
                    return
            await asyncio.sleep(0.02)


async def rest(client: aiohttp.ClientSession, where: str, seen: str) -> list[Event]:
    """To the end; a gateway that was killed is known to be once it has said nothing for its lease."""
    headers: dict[str, Any] = {"Last-Event-ID": seen}
    async with asyncio.timeout(60), client.get(where, headers=headers) as reply:
        assert reply.status == 200, await reply.text()
        return events(await reply.text())
