"""Plugins that raise, hang or hold up the loop: the call is refused or goes on, by their kind; the next one is well."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from sidegate.errors import ConfigError
from sidegate.testing import Exchange, gateway
from tests.abuse.faulty import WORDS
from tests.abuse.scene import (
    OPENAI,
    SHAPES,
    Scene,
    Shape,
    answers,
    check_refusal,
    config,
    openai_event,
    scene,
)
from tests.abuse.sockets import Answer, ask, request

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
each_delivery = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])


def faulty(kind: str, where: str = "") -> dict[str, Any]:
    return {"use": f"tests.abuse.faulty:{kind}", "settings": {"where": where}}


async def says(exchange: Exchange) -> None:
    """Both dialects, streamed or whole, as it was asked."""
    if not exchange.json.get("stream"):
        return await answers(exchange)
    if exchange.path.endswith("/messages"):
        start = b'{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"c",'
        start += b'"content":[],"stop_reason":null,"usage":{"input_tokens":1,"output_tokens":1}}}'
        block = b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
        delta = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}'
        stop = b'{"type":"content_block_stop","index":0}'
        ends = b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}'
        named = zip(
            ("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"),
            (start, block, delta, stop, ends),
            strict=True,
        )
        events = [b"event: " + name.encode() + b"\ndata: " + data + b"\n\n" for name, data in named]
        return await exchange.stream(*events, b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    return await exchange.stream(openai_event("hi"), openai_event(None, "stop"), b"data: [DONE]\n\n")


async def broken(there: Scene, shape: Shape, stream: bool, where: str) -> Answer:
    """A call in which the plugin fails `where`, and after it one in which it does not."""
    answer = await ask(there.url, shape.asks(shape.body(stream=stream), headers={"x-break": where}))
    after = await ask(there.url, shape.asks(shape.body(stream=stream)))
    assert after.status == 200
    assert b"error" not in after.body
    assert b"5ecret" not in answer.body
    row = await ask(there.url, request(f"/v1/calls/{answer.header('x-request-id')}", method="GET"))
    assert row.status == 200, "every call is on record, however it ended"
    return answer


# --- row 21: a plugin that raises -------------------------------------------------------------------------------------


@each_shape
@each_delivery
@pytest.mark.parametrize("where", ["before", "after", "tap"])
async def test_a_guard_that_raises_fails_closed(shape: Shape, stream: bool, where: str) -> None:
    async with scene(faulty("Guard"), script=says) as there:
        answer = await broken(there, shape, stream, where)
        if stream and where == "after":
            assert answer.status == 200
            assert b"could not process" in answer.body
        else:
            check_refusal(answer, shape, 500)
        assert (there.asked == 1) is (where == "before")


@each_shape
@each_delivery
@pytest.mark.parametrize("where", ["before", "after", "tap"])
async def test_an_observer_that_raises_fails_open(shape: Shape, stream: bool, where: str) -> None:
    async with scene(faulty("Watcher"), script=says) as there:
        answer = await broken(there, shape, stream, where)
        assert answer.status == 200
        assert b"hi" in answer.body
        assert b"error" not in answer.body
        assert there.asked == 2
        metrics = await ask(there.running.admin_url, request("/metrics", method="GET", headers={"Host": "localhost"}))
        assert re.search(rb'sidegate_plugin_failures_total{plugin="Watcher"} [1-9]', metrics.body)


@each_shape
@each_delivery
@pytest.mark.parametrize("where", ["edit see", "edit end"])
async def test_an_edit_that_raises_fails_closed(shape: Shape, stream: bool, where: str) -> None:
    async with scene(faulty("Editor"), script=says) as there:
        answer = await broken(there, shape, stream, where)
        if answer.status == 200:
            assert stream
            assert b"could not process" in answer.body
            assert b"[DONE]" not in answer.body
            assert b"message_stop" not in answer.body
        else:
            check_refusal(answer, shape, 500)


@pytest.mark.parametrize("where", ["construct", "start"])
async def test_a_plugin_that_cannot_start_keeps_the_gateway_from_starting(where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        async with gateway(config("http://127.0.0.1:9", faulty("Guard"), faulty("Guard", where))):
            pass
    assert "pipelines.main[1]" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["Guard", "Watcher"])
async def test_a_plugin_that_cannot_stop_keeps_nobody_from_stopping(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene(faulty("Guard"), faulty(kind, "stop")) as there:
        assert (await ask(there.url, OPENAI.asks())).status == 200
    assert "could not be stopped" in caplog.text
    assert WORDS in caplog.text


# --- row 22: a plugin that takes its time -----------------------------------------------------------------------------

HASTY = {"plugin_timeout": 0.2}


@each_shape
@each_delivery
@pytest.mark.parametrize("where", ["hang before", "hang after"])
async def test_a_guard_that_hangs_is_interrupted(shape: Shape, stream: bool, where: str) -> None:
    async with scene(faulty("Guard"), script=says, server=HASTY) as there, asyncio.timeout(20):
        answer = await broken(there, shape, stream, where)
        if stream and where == "hang after":
            assert b"could not process" in answer.body
        else:
            check_refusal(answer, shape, 503)


@each_shape
@each_delivery
@pytest.mark.parametrize("where", ["hang before", "hang after"])
async def test_an_observer_that_hangs_is_stepped_over(shape: Shape, stream: bool, where: str) -> None:
    async with scene(faulty("Watcher"), script=says, server=HASTY) as there, asyncio.timeout(20):
        answer = await broken(there, shape, stream, where)
        assert answer.status == 200
        assert b"hi" in answer.body
        assert b"error" not in answer.body


@each_shape
@each_delivery
async def test_an_edit_that_hangs_is_a_refusal(shape: Shape, stream: bool) -> None:
    async with scene(faulty("Editor"), script=says, server=HASTY) as there, asyncio.timeout(20):
        answer = await broken(there, shape, stream, "edit hang")
        if answer.status == 200:
            assert stream
            assert b"error" in answer.body
        else:
            check_refusal(answer, shape, 503)


async def test_others_are_answered_while_a_plugin_hangs() -> None:
    async with scene(faulty("Guard"), script=says, server={"plugin_timeout": 60}) as there:
        hanging = [
            asyncio.ensure_future(ask(there.url, OPENAI.asks(headers={"x-break": "hang before"}))) for _ in range(20)
        ]
        await asyncio.sleep(0)
        assert (await ask(there.url, OPENAI.asks())).status == 200
        assert not any(one.done() for one in hanging)
        for one in hanging:
            one.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_plugin_that_holds_up_the_loop_is_measured_and_named() -> None:
    async with scene(faulty("Guard"), script=says) as there:
        assert (await ask(there.url, OPENAI.asks(headers={"x-break": "block"}))).status == 200
        scraped = request("/metrics", method="GET", headers={"Host": "localhost"})
        body = ""
        async with asyncio.timeout(20):
            while (
                not (lag := re.search(r"^sidegate_event_loop_lag_seconds_sum (\S+)$", body, re.M))
                or float(lag[1]) < 0.1
            ):
                await asyncio.sleep(0.05)  # until the ticker's next tick
                body = (await ask(there.running.admin_url, scraped)).body.decode()
    own = re.search(r'^sidegate_plugin_seconds_sum{plugin="Guard"} (\S+)$', body, re.MULTILINE)
    assert own is not None
    assert 0.3 < float(own[1]) < 10
