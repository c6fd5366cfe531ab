"""Whatever a provider does, a page is told: never a hang, and never an end that looks whole."""

from __future__ import annotations

import asyncio

import pytest

from sidegate.testing import MISBEHAVIOURS
from sidegate.testing.misbehaviour import ODDITIES
from sidegate.testing.oddities import LARGE, MANY
from sidegate.testing.voices import TEXT, WORDS
from tests.endings.expected import BROKEN
from tests.endings.ground import LONG, scene
from tests.endings.test_ui_messages import ASKED
from tests.wire.ui_reading import read

PROVIDERS = ("openai", "anthropic", "openai_responses")
# The dialects are held to all of these elsewhere: here it is the page that counts.
EACH = [(name, PROVIDERS[index % 3]) for index, name in enumerate(BROKEN)]
ODD = [(name, PROVIDERS[index % 3]) for index, name in enumerate(ODDITIES)]
INTERNAL = ("Traceback", "aiohttp", "msgspec", "127.0.0.1", "5ecret", "{")


@pytest.mark.parametrize(("name", "dialect"), EACH, ids=[f"{name}-{dialect}" for name, dialect in EACH])
async def test_a_reply_that_is_none(name: str, dialect: str) -> None:
    end = BROKEN[name][0]
    async with scene(MISBEHAVIOURS[name](dialect), dialect, timeouts={} if end.phase else LONG) as on:
        async with asyncio.timeout(30), on.http.post(on.running.url + "/api/chat", json=ASKED) as reply:
            body = await reply.read()
    assert reply.status == end.status
    if end.status == 200:
        seen = read(body)
        assert seen.texts() == WORDS[0] + WORDS[1], "what was said before is not lost"
        assert (seen.finish, seen.ended) == (None, False)
        told = seen.error or ""
    else:
        assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
        told = body.decode()
    assert told
    assert not [word for word in INTERNAL if word in told]


@pytest.mark.parametrize(("name", "dialect"), ODD, ids=[f"{name}-{dialect}" for name, dialect in ODD])
async def test_a_reply_that_is_odd_and_good(name: str, dialect: str) -> None:
    async with scene(MISBEHAVIOURS[name](dialect), dialect, timeouts=LONG) as on:
        async with asyncio.timeout(60), on.http.post(on.running.url + "/api/chat", json=ASKED) as reply:
            seen = read(await reply.read())
    assert (reply.status, seen.ended, seen.finish) == (200, True, "stop")
    assert seen.texts() == {"large_event": "x" * LARGE, "many_tokens": "x" * MANY}.get(name, TEXT)
