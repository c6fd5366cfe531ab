"""Clients that are slow, that leave, or that come too often: none of them costs more than itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import monotonic
from typing import Any

import pytest

from sidegate.testing import Exchange
from tests.abuse.scene import CROSSED, OPENAI, Scene, Shape, check_refusal, openai_event, openai_says, scene
from tests.abuse.sockets import ask, request, wire
from tests.relaying import until

LOG = {"use": "log"}

each_shape = pytest.mark.parametrize("shape", [OPENAI, CROSSED], ids=lambda shape: shape.name)
each_way = pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])


async def lines(there: Scene, count: int = 1) -> list[dict[str, Any]]:
    await until(lambda: len(there.running.log.events("call")) >= count)
    return there.running.log.events("call")


async def row(there: Scene, call_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await ask(there.url, request(f"/v1/calls/{call_id}", method="GET"))).json
    return found


async def dropped(exchange: Exchange, since: float) -> None:
    """The provider is let go of when the client leaves, and not when some timeout is over."""
    async with asyncio.timeout(10):
        await exchange.closed.wait()
    assert exchange.closed_at is not None
    assert exchange.closed_at - since < 5


# --- row 23: slow senders ---------------------------------------------------------------------------------------------


@each_shape
async def test_slow_senders_are_closed_in_time_and_hold_up_nobody(shape: Shape) -> None:
    async with scene(server={"keepalive_timeout": 0.5, "body_timeout": 0.5}) as there:
        connections = [wire(there.url) for _ in range(100)]
        opened = [await connection.__aenter__() for connection in connections]
        begun = monotonic()
        for number, connection in enumerate(opened):
            whole = shape.asks()
            await connection.send(whole[: number * len(whole) // 100])
        assert (await ask(there.url, shape.asks())).status == 200
        answers = await asyncio.gather(*(connection.answer() for connection in opened))
        assert monotonic() - begun < 10
        for answer in answers:
            if answer is not None:
                check_refusal(answer, shape, 408)
        assert Counter(answer.status if answer else None for answer in answers).keys() == {None, 408}
        assert there.asked == 1
        for connection in opened:
            connection.reset()


# --- row 24: slow readers ---------------------------------------------------------------------------------------------


@each_shape
async def test_a_reader_that_never_reads_slows_its_provider_and_is_cut(shape: Shape) -> None:
    sent = 0

    async def script(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.head(Transfer_Encoding="chunked")
        while True:
            await exchange.chunk(openai_event("a" * 6_000))
            sent += 1

    async with scene(LOG, script=script, server={"send_timeout": 0.4}) as there:
        async with wire(there.url, receive_buffer=4096) as connection:
            connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
            await connection.send(shape.asks(shape.body(stream=True)))
            (line,) = await lines(there)
            assert there.provider.exchanges[0].closed.is_set() or sent < 10_000
        assert line["error"] == "write_timeout"
        assert 0 < line["output_tokens"] <= sent * 6_000
        found = await row(there, line["call"])
        assert found["ending"] == "client_gone"
        assert found["attempts"][0]["output_tokens"] > 0


# --- rows 25 to 27: clients that leave --------------------------------------------------------------------------------


@each_shape
@each_way
async def test_leaving_before_the_first_token_is_billed_the_prompt(shape: Shape, reset: bool) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.closed.wait()

    async with scene(LOG, script=script) as there, wire(there.url) as connection:
        await connection.send(shape.asks(shape.body(stream=True)))
        await until(lambda: there.asked == 1)
        since = asyncio.get_running_loop().time()
        connection.reset() if reset else connection.writer.close()
        await dropped(there.provider.exchanges[0], since)
        (line,) = await lines(there)
        assert (line["ending"], line["status"]) == ("client_gone", 499)
        attempt = (await row(there, line["call"]))["attempts"][0]
        assert attempt["input_tokens"] > 0


@each_shape
@each_way
async def test_leaving_in_a_stream_is_billed_what_came(shape: Shape, reset: bool) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        for _ in range(5):
            await exchange.chunk(openai_event("some words"))
        await exchange.closed.wait()

    async with scene(LOG, script=script) as there, wire(there.url) as connection:
        await connection.send(shape.asks(shape.body(stream=True)))
        for _ in range(5):
            await connection.reader.readuntil(b"some words")
        since = asyncio.get_running_loop().time()
        connection.reset() if reset else connection.writer.close()
        await dropped(there.provider.exchanges[0], since)
        (line,) = await lines(there)
        assert line["ending"] == "client_gone"
        assert line["usage_estimated"]
        attempt = (await row(there, line["call"]))["attempts"][0]
        assert attempt["output_tokens"] > 5
        assert attempt["input_tokens"] > 0


@each_shape
@each_way
async def test_leaving_a_whole_answer_that_is_awaited_drops_the_provider(shape: Shape, reset: bool) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.closed.wait()

    async with scene(LOG, script=script) as there, wire(there.url) as connection:
        await connection.send(shape.asks())
        await until(lambda: there.asked == 1)
        since = asyncio.get_running_loop().time()
        connection.reset() if reset else connection.writer.close()
        await dropped(there.provider.exchanges[0], since)
        (line,) = await lines(there)
        assert line["ending"] == "client_gone"
        assert (await row(there, line["call"]))["ending"] == "client_gone"


# --- rows 30 and 31: crowds -------------------------------------------------------------------------------------------


async def test_two_hundred_junk_connections_hold_up_nobody() -> None:
    junk = [b"", b"\0" * 1000, b"GET", b"\r\n" * 100, b"POST / HTTP/1.1\r\n", b"\x16\x03\x01", b"{}"]
    async with scene(server={"keepalive_timeout": 0.5}) as there:
        connections = [wire(there.url) for _ in range(200)]
        opened = [await connection.__aenter__() for connection in connections]
        for number, connection in enumerate(opened):
            await connection.send(junk[number % len(junk)])
        assert (await ask(there.url, OPENAI.asks())).status == 200
        for connection in opened:
            connection.reset()
        assert (await ask(there.url, OPENAI.asks())).status == 200


async def test_a_storm_of_the_same_request_is_shed_and_each_is_on_record() -> None:
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go_on.wait()
        await exchange.reply(openai_says("hi"))

    async with scene(LOG, script=script, server={"max_calls": 10}) as there:
        storm = [asyncio.ensure_future(ask(there.url, OPENAI.asks())) for _ in range(50)]
        await until(lambda: sum(one.done() for one in storm) == 40)
        await until(lambda: there.asked == 10)
        go_on.set()
        statuses = Counter(answer.status for answer in await asyncio.gather(*storm))
        assert statuses == {200: 10, 503: 40}
        shed = next(one.result() for one in storm if one.result().status == 503)
        check_refusal(shed, OPENAI, 503)
        assert shed.header("retry-after") == "1"
        assert len(await lines(there, 10)) == 10
