"""Gemini's providers and clients at every ending: told, let go and on record as the others are.

What differs: there is no mark of a clean end, so a stream is whole where its last candidate has a reason; and there are
no signs of life, for Google's clients take a comment for a reply.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import msgspec
import pytest

from sidegate.testing import MISBEHAVIOURS
from sidegate.testing.misbehaviour import ODDITIES
from sidegate.testing.oddities import LARGE, MANY
from sidegate.testing.spoken import first_half
from sidegate.testing.voices import TEXT, USED, VOICES, WORDS
from sidegate.wire import sse
from tests.abuse.sockets import request, wire
from tests.endings.expected import BROKEN, End
from tests.endings.ground import LONG, OPENAI, SHORT, Scene, scene, until
from tests.endings.test_providers import INTERNAL, check_provider, check_record, check_secrets, check_told, check_usage

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
EVERYWHERE = [name for name in ODDITIES if name != "text_after_the_end"]
"""Without the one about the mark that there is not."""


def path(stream: bool) -> str:
    return "/v1beta/models/m:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")


ASKED = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 50}}


class Heard:
    """What a client of Gemini got."""

    def __init__(self, status: int, headers: Any, body: bytes, seconds: float) -> None:
        self.status, self.headers, self.body, self.seconds = status, headers, body, seconds

    @property
    def id(self) -> str:
        return str(self.headers["x-request-id"])

    @property
    def told(self) -> list[Any]:
        assert self.headers["Content-Type"] == "text/event-stream"
        splitter = sse.Splitter()
        found = splitter.feed(self.body)
        assert splitter.close() is None
        assert all(event.startswith(b"data: ") for event in found), "a comment breaks Google's clients"
        return [json.loads(sse.data(event) or b"") for event in found]

    @property
    def text(self) -> str:
        return _text(self.told)

    @property
    def finished(self) -> bool:
        return any(one.get("finishReason") for each in self.told for one in each.get("candidates", []))


def _text(told: list[Any]) -> str:
    parts = [part for each in told for one in each.get("candidates", []) for part in one["content"]["parts"]]
    return "".join(part["text"] for part in parts)


async def ask(on: Scene, stream: bool) -> Heard:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(20), on.http.post(on.running.url + path(stream), json=ASKED) as reply:
        return Heard(reply.status, reply.headers, await reply.read(), loop.time() - began)


def check_error(error: Any, end: End) -> None:
    assert set(error) == {"code", "message", "status", "details"}
    assert error["code"] == (end.told or end.status)
    assert error["status"].isupper()
    reason = next(each["reason"] for each in error["details"] if each["@type"].endswith("ErrorInfo"))
    assert reason.lower().startswith(end.code)
    assert not [word for word in INTERNAL if word in error["message"]]


@both
@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("dialect", ["gemini", "openai"], ids=["of-gemini", "of-openai"])
async def test_a_client_of_gemini_is_told_of_a_reply_that_is_none(name: str, dialect: str, stream: bool) -> None:
    end = BROKEN[name][0 if stream else 1]
    async with scene(MISBEHAVIOURS[name](dialect), dialect, timeouts={} if end.phase else LONG) as on:
        heard = await ask(on, stream)
        assert heard.status == end.status
        if end.status == 200:
            assert not heard.finished
            assert _text(heard.told[:-1]) == WORDS[0] + WORDS[1], "what was said before is not lost"
            check_error(heard.told[-1]["error"], end)
        else:
            assert heard.headers["Content-Type"].startswith("application/json")
            check_error(json.loads(heard.body)["error"], end)
        if end.phase:
            assert heard.seconds > SHORT / 2
        check_record(await on.record(heard.id), end, begun=dialect == "gemini" and stream)


@both
@pytest.mark.parametrize("name", BROKEN)
async def test_a_provider_of_gemini_whose_reply_is_none(
    name: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sidegate")
    end = BROKEN[name][0 if stream else 1]
    async with scene(MISBEHAVIOURS[name]("gemini"), "gemini", timeouts={} if end.phase else LONG) as on:
        seen = await on.ask(OPENAI, stream)
        check_told(seen, end)
        await check_provider(on, end, seen)
        check_record(await on.record(seen.id), end, begun=stream)
        await check_secrets(on, seen, caplog.text)


@both
@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize("dialect", ["gemini", "anthropic"], ids=["of-gemini", "of-anthropic"])
async def test_an_oddity_changes_nothing_for_clients_of_gemini(name: str, dialect: str, stream: bool) -> None:
    async with scene(MISBEHAVIOURS[name](dialect), dialect, timeouts=LONG) as on:
        heard = await ask(on, stream)
        record = await on.record(heard.id)
    said = {"large_event": "x" * LARGE, "many_tokens": "x" * MANY}.get(name, TEXT)
    assert heard.status == 200
    if stream:
        assert heard.text == said
        assert heard.finished
    else:
        assert _text([json.loads(heard.body)]) == said
    assert record["ending"] == "complete"
    check_usage(name, record)


@both
@pytest.mark.parametrize("name", EVERYWHERE)
async def test_an_oddity_of_gemini_changes_nothing(name: str, stream: bool) -> None:
    async with scene(MISBEHAVIOURS[name]("gemini"), "gemini", timeouts=LONG) as on:
        seen = await on.ask(OPENAI, stream)
        record = await on.record(seen.id)
    said = {"large_event": "x" * LARGE, "many_tokens": "x" * MANY}.get(name, TEXT)
    assert seen.status == 200
    assert (seen.text if stream else OPENAI.text(seen.body)) == said
    assert record["ending"] == "complete"
    check_usage(name, record)


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_leaving_in_mid_stream_lets_the_provider_go(how: str) -> None:
    voice = VOICES["gemini"]

    async def speaks(exchange: Any) -> None:
        await first_half(exchange, voice)
        await exchange.closed.wait()

    async with scene(speaks, "gemini", timeouts=LONG) as on, wire(on.running.url) as connection:
        await connection.send(request(path(True), msgspec.json.encode(ASKED)))
        while WORDS[1].encode() not in await connection.reader.readuntil(b"\n\n"):
            pass
        (live,) = on.running.service.live.all()
        if how == "RST":
            connection.reset()
        else:
            connection.writer.close()
        await until(on.provider.exchanges[0].closed.is_set)
        async with asyncio.timeout(5):
            await live.done
        record = await on.record(live.call.id)
    assert (record["ending"], record["state"], record["estimated"]) == ("client_gone", "settled", True)
    assert (record["input_tokens"], record["output_tokens"]) == (USED[0], 3)


async def test_a_silent_stream_shows_no_sign_of_life_but_its_head() -> None:
    script = MISBEHAVIOURS["never_answers"]("gemini")
    async with scene(script, "gemini", server={"heartbeat": 0.05, "drain": 1}) as on:
        heard = await ask(on, True)
        record = await on.record(heard.id)
    body = heard.body
    assert b": ping" not in body
    told = json.loads(body.removeprefix(b"data: "))["error"]
    assert (told["code"], told["status"]) == (504, "DEADLINE_EXCEEDED")
    assert (record["ending"], record["status"]) == ("timed_out", 504)
