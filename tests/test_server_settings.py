"""What aiohttp's server does by default and a gateway must not: each claim fails without its setting or its code."""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
import logging
import os
import socket
import subprocess
import sys
import tracemalloc
import zlib
from time import monotonic
from typing import Any

import pytest

from sidegate.contract import Call, Handler, Plugin, Reply
from sidegate.http.outermost import outermost
from sidegate.testing import Exchange
from tests.abuse.scene import (
    CLIENT_KEY,
    CROSSED,
    OPENAI,
    SHAPES,
    Scene,
    Shape,
    check_refusal,
    openai_event,
    openai_says,
    scene,
)
from tests.abuse.sockets import DROPPED, ask, request, wire
from tests.relaying import until

MIB = 2**20
LOG = {"use": "log"}

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
each_delivery = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])


async def silent(exchange: Exchange) -> None:
    """A provider that never answers."""
    await exchange.closed.wait()


async def stalls(exchange: Exchange) -> None:
    """A provider that begins, and says no more."""
    await exchange.head(Transfer_Encoding="chunked")
    await exchange.chunk(openai_event("hi"))
    await exchange.closed.wait()


async def reached(there: Scene, calls: int = 1) -> None:
    """Until the provider has been asked."""
    await until(lambda: there.asked >= calls)


async def line(there: Scene) -> dict[str, Any]:
    """The log's line of the one call, once there is one."""
    await until(lambda: bool(there.running.log.events("call")))
    return there.running.log.events("call")[0]


# 1: handler_cancellation


@each_delivery
@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
async def test_a_client_that_leaves_is_noticed_while_the_provider_is_silent(stream: bool, reset: bool) -> None:
    async with scene(LOG, script=silent) as there, wire(there.url) as connection:
        await connection.send(OPENAI.asks(OPENAI.body(stream=stream)))
        await reached(there)
        left = asyncio.get_running_loop().time()
        connection.reset() if reset else connection.writer.close()
        async with asyncio.timeout(10):
            await there.provider.exchanges[0].closed.wait()
        closed = there.provider.exchanges[0].closed_at
        assert closed is not None
        assert closed - left < 5
        assert (await line(there))["ending"] == "client_gone"


# 2: half-close


async def test_a_half_closed_connection_is_a_client_that_left() -> None:
    """No choice of ours: aiohttp cannot tell one from the other. The call is stopped, and on record."""
    async with scene(LOG, script=silent) as there, wire(there.url) as connection:
        await connection.send(OPENAI.asks())
        await reached(there)
        connection.writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        assert await connection.answer() is None
        assert (await line(there))["ending"] == "client_gone"


# 3: what a handler awaits in its `finally` is lost at shutdown


@each_delivery
async def test_a_call_that_outlasts_the_drain_is_on_record(stream: bool) -> None:
    async with scene(LOG, script=stalls if stream else silent, server={"drain": 0.1}) as there:
        async with wire(there.url) as connection:
            await connection.send(OPENAI.asks(OPENAI.body(stream=stream)))
            await reached(there)
            ledger = there.running.service.ledger
            (call_id,) = there.running.service.live._calls
            assert await there.running.gateway.stop() == 1
            row = await ledger.call(call_id)
    assert row is not None
    assert row[0].ending == "gateway_stopping"
    assert there.running.log.events("call")[0]["ending"] == "gateway_stopping"


# 4: a blocked write never times out


async def test_a_reader_that_stands_still_is_cut() -> None:
    async def pours(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        while True:
            await exchange.chunk(openai_event("a" * 60_000))

    async with scene(LOG, script=pours, server={"send_timeout": 0.3}) as there:
        async with wire(there.url, receive_buffer=4096) as connection:
            connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
            await connection.send(OPENAI.asks(OPENAI.body(stream=True)))
            async with asyncio.timeout(20):
                found = await line(there)
                await there.provider.exchanges[0].closed.wait()
    assert found["error"] == "write_timeout"


@pytest.mark.parametrize("size", [100_000, 8 * MIB])
@each_delivery
async def test_a_reader_that_stands_still_after_the_call_has_ended_is_cut_too(size: int, stream: bool) -> None:
    async def script(exchange: Exchange) -> None:
        if not stream:
            return await exchange.reply(openai_says("a" * size))
        events = [openai_event("a" * 50_000)] * (size // 50_000)
        return await exchange.stream(*events, openai_event(None, "stop"), b"data: [DONE]\n\n")

    async with scene(LOG, script=script, server={"send_timeout": 0.1}) as there:
        async with wire(there.url, receive_buffer=4096) as connection:
            connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
            small = socket.SO_SNDBUF, 4096
            await connection.send(b"")
            await until(lambda: bool(open_connections(there)))
            open_connections(there)[0].transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, *small)
            await connection.send(OPENAI.asks(OPENAI.body(stream=stream)))
            await until(lambda: not open_connections(there))
        assert (await line(there))["ending"] in ("complete", "client_gone")


def open_connections(there: Scene) -> list[Any]:
    """The connections of the gateway's listener."""
    server = there.running.gateway._runners[0].server
    assert server is not None
    return list(server.connections)


# 5: a clean return makes a cut look complete


@pytest.mark.parametrize("shape", [OPENAI, CROSSED], ids=lambda shape: shape.name)
async def test_a_cut_is_never_a_clean_end(shape: Shape) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(openai_event("hi"))
        exchange.reset()

    async with scene(script=cut) as there:
        answer = await ask(there.url, shape.asks(shape.body(stream=True)))
    assert answer.body.rstrip().split(b"\n\n")[-1].count(b'"error"') >= 1
    assert b"[DONE]" not in answer.body
    assert b"message_stop" not in answer.body


# 6: keepalive_timeout, the only bound on headers


@pytest.mark.parametrize("begun", [b"", b"POST /v1/chat/com", b"GET / HTTP/1.1\r\nHost: g\r\nX: "])
@pytest.mark.parametrize("drips", [True, False])
async def test_headers_that_do_not_come_are_not_waited_for(begun: bytes, drips: bool) -> None:
    async with scene(server={"keepalive_timeout": 0.5}) as there, wire(there.url) as connection:
        await connection.send(begun)
        since = monotonic()

        async def drip() -> None:
            while drips and begun:
                await connection.send(b"a")
                await asyncio.sleep(0.05)

        dripping = asyncio.ensure_future(drip())
        assert await connection.closed()
        dripping.cancel()
        assert 0.2 < monotonic() - since < 10


async def test_a_kept_connection_is_closed_in_the_end() -> None:
    async with scene(server={"keepalive_timeout": 0.5}) as there, wire(there.url) as connection:
        for _ in range(2):
            await connection.send(OPENAI.asks())
            answer = await connection.answer()
            assert answer is not None
            assert answer.status == 200
        since = monotonic()
        assert await connection.closed()
        assert 0.2 < monotonic() - since < 10


# 7: no bound on bodies


@each_shape
@pytest.mark.parametrize("begun", [b"", b'{"model": "'])
async def test_a_body_that_does_not_come_is_not_waited_for(shape: Shape, begun: bytes) -> None:
    async with scene(server={"body_timeout": 0.2}) as there, wire(there.url) as connection:
        await connection.send(shape.asks(begun, headers={"Content-Length": "100"}))
        since = monotonic()
        answer = await connection.answer()
        assert answer is not None
        check_refusal(answer, shape, 408)
        assert 0.1 < monotonic() - since < 10
        assert answer.header("connection") == "close"
        assert there.asked == 0


# 8: auto_decompress and lingering_time


async def test_the_body_of_a_refused_request_is_not_inflated() -> None:
    bomb = zlib.compress(b" " * 64 * MIB)
    async with scene() as there, wire(there.url) as connection:
        tracemalloc.start()
        try:
            await connection.send(OPENAI.asks(bomb, headers={"Content-Encoding": "deflate"}))
            answer = await connection.answer()
            assert (await ask(there.url, request("/livez", method="GET"))).status == 200
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert answer is not None
        assert answer.status == 415
        assert peak < MIB


async def test_even_a_body_that_is_taken_is_not_inflated_by_the_server() -> None:
    """A path that nobody serves reads no body: what aiohttp reads away after it stays compressed."""
    bomb = zlib.compress(b" " * 64 * MIB)
    headers = {"Content-Encoding": "deflate", "Content-Length": str(len(bomb))}
    async with scene() as there, wire(there.url) as connection:
        await connection.send(request("/nowhere", headers=headers))
        answer = await connection.answer()
        tracemalloc.start()
        try:
            await connection.send(bomb)
            await connection.send(request("/livez", method="GET"))
            after = await connection.answer()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert answer is not None
        assert answer.status == 404
        assert after is None or after.status == 200
        assert peak < MIB


async def test_the_rest_of_a_refused_body_is_waited_for_a_second_at_most() -> None:
    async with scene() as there, wire(there.url) as connection:
        await connection.send(request("/nowhere", headers={"Content-Length": "1000"}))
        since = monotonic()
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 404
        assert await connection.closed()
        assert monotonic() - since < 8, "aiohttp's own would be ten seconds"


# 9: client_max_size


async def test_the_bound_on_bodies_is_the_configs_and_not_aiohttps() -> None:
    body = OPENAI.body(user="u" * 3 * MIB)
    chunked = {"Transfer-Encoding": "chunked", "Content-Length": DROPPED}
    framed = b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    async with scene() as there:
        assert (await ask(there.url, OPENAI.asks(body))).status == 200
        assert (await ask(there.url, OPENAI.asks(b"", headers=chunked) + framed)).status == 200
    async with scene(server={"max_body_bytes": 2 * MIB}) as there:
        check_refusal(await ask(there.url, OPENAI.asks(body)), OPENAI, 413)
        check_refusal(await ask(there.url, OPENAI.asks(b"", headers=chunked) + framed), OPENAI, 413)


# 10: what cannot be parsed is logged and echoed, keys and all


async def test_what_cannot_be_parsed_is_neither_logged_nor_echoed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with scene() as there, wire(there.url) as connection:
        await connection.send(OPENAI.asks())
        assert await connection.answer() is not None
        await connection.send(OPENAI.asks(headers={"Authorization": f"Bearer {CLIENT_KEY}", "X": "a\nb"}))
        answer = await connection.answer()
    assert answer is not None
    assert answer.status == 400
    assert CLIENT_KEY.encode() not in answer.body
    assert CLIENT_KEY not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


# 11: what aiohttp lets through


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (OPENAI.asks(headers=[("Authorization", "Bearer a"), ("Authorization", "Bearer b")]), 400),
        (OPENAI.asks(version="0.9"), 505),
        (OPENAI.asks(version="2.0"), 505),
        (request("http://evil/v1/chat/completions", OPENAI.body()), 400),
        (OPENAI.asks(b"0\r\n\r\n", headers={"Transfer-Encoding": "gzip, chunked", "Content-Length": DROPPED}), 400),
    ],
    ids=["two credentials", "HTTP/0.9", "HTTP/2.0", "another host", "gzip, chunked"],
)
async def test_what_aiohttp_lets_through_is_refused(data: bytes, status: int) -> None:
    async with scene() as there:
        check_refusal(await ask(there.url, data), OPENAI, status)
        assert there.asked == 0


# 12: a line break in a reply header


class Breaks(Plugin[None]):
    """Sets a header that cannot be sent."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        call.reply_headers["x-broken"] = "a\r\nb"
        return await handler(call)


async def test_a_header_that_cannot_be_sent_costs_only_itself() -> None:
    async with scene({"use": "tests.test_server_settings:Breaks"}) as there:
        answer = await ask(there.url, OPENAI.asks())
    assert answer.status == 200
    assert answer.header("x-broken") is None


# 13: the drain


async def test_a_stream_goes_on_while_the_gateway_drains_and_new_calls_are_refused() -> None:
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(openai_event("a"))
        await go_on.wait()
        for event in (openai_event("b"), openai_event(None, "stop"), b"data: [DONE]\n\n", b""):
            await exchange.chunk(event)

    async with scene(script=script, server={"drain": 5}) as there:
        async with wire(there.url) as streaming, wire(there.url) as other:
            await streaming.send(OPENAI.asks(OPENAI.body(stream=True)))
            await streaming.reader.readuntil(b'"a"')
            stopping = asyncio.ensure_future(there.running.gateway.stop())
            await asyncio.sleep(0)
            await other.send(OPENAI.asks())
            refused = await other.answer()
            assert refused is not None
            check_refusal(refused, OPENAI, 503)
            assert refused.header("retry-after") == "1"
            await other.send(request("/readyz", method="GET"))
            ready = await other.answer()
            assert ready is not None
            assert ready.status == 503
            go_on.set()
            rest = await streaming.reader.readuntil(b"0\r\n\r\n")
            assert b"[DONE]" in rest
            assert await stopping == 0


async def test_a_stream_that_outlasts_the_drain_is_told_so_and_the_exit_is_not_late() -> None:
    async with scene(script=stalls, server={"drain": 0.2}) as there, wire(there.url) as connection:
        await connection.send(OPENAI.asks(OPENAI.body(stream=True)))
        await connection.reader.readuntil(b'"hi"')
        since = monotonic()
        assert await there.running.gateway.stop() == 1
        assert monotonic() - since < 10
        rest = await connection.reader.read()
        assert b"gateway_stopping" in rest
        assert b"[DONE]" not in rest


@each_delivery
async def test_a_reader_that_stands_still_does_not_hold_up_the_exit(stream: bool) -> None:
    async def pours(exchange: Exchange) -> None:
        if not stream:
            return await exchange.reply(openai_says("a" * 16 * MIB))
        return await exchange.stream(*[openai_event("a" * 60_000)] * 300)

    async with scene(script=pours, server={"drain": 0.2}) as there:
        async with wire(there.url, receive_buffer=4096) as connection:
            connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
            await connection.send(OPENAI.asks(OPENAI.body(stream=stream)))
            await reached(there)
            if not stream:
                await until(lambda: not there.running.service.live)
            since = monotonic()
            await there.running.gateway.stop()
            assert monotonic() - since < 10


# 14: idle streams


async def test_idle_streams_are_let_go_of_at_once() -> None:
    async with scene(script=stalls) as there:
        before = len(os.listdir("/proc/self/fd"))
        connections = [wire(there.url) for _ in range(200)]
        opened = [await connection.__aenter__() for connection in connections]
        for connection in opened:
            await connection.send(OPENAI.asks(OPENAI.body(stream=True)))
        for connection in opened:
            await connection.reader.readuntil(b'"hi"')
        assert len(there.running.service.live) == 200
        assert (await ask(there.url, request("/livez", method="GET"))).status == 200
        for connection in opened:
            connection.reset()
        await until(lambda: not there.running.service.live and len(os.listdir("/proc/self/fd")) <= before + 2)


# 15: "Server got itself in trouble"


class Breaking(Plugin[None]):
    """Replaces what the endpoint needs, so that the gateway itself fails."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        reply = await handler(call)
        call.reply_headers = None  # type: ignore[assignment]
        return reply


@each_shape
async def test_a_fault_of_the_gateway_is_an_error_like_any_other(
    shape: Shape, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene({"use": "tests.test_server_settings:Breaking"}) as there:
        answer = await ask(there.url, shape.asks())
    assert check_refusal(answer, shape, 500) == "The gateway failed."
    assert "failed outside of any call" in caplog.text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/livez", "/nowhere", "/%zz", "\x01"])
async def test_every_reply_is_sidegates_own(path: str) -> None:
    async with scene() as there:
        for url in (there.url, there.running.admin_url):
            answer = await ask(url, request(path, method="GET"))
            assert [value for name, value in answer.headers if name == "server"] == ["sidegate/0.1.0"]
            assert b"aiohttp" not in answer.body


# 16: the name of a middleware's parameter


def test_the_middleware_takes_what_aiohttp_gives_it() -> None:
    assert list(inspect.signature(outermost).parameters) == ["request", "handler"]
    assert getattr(outermost, "__middleware_version__", None) == 1


# 3.1: versions and parsers


def test_the_parser_in_python_is_refused() -> None:
    code = "from sidegate.http.server import check_parser; check_parser()"
    environ = {**os.environ, "AIOHTTP_NO_EXTENSIONS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert "aiohttp's C parser is not available" in done.stderr


def test_aiohttp_is_new_enough() -> None:
    version = importlib.metadata.version("aiohttp").split(".")
    assert tuple(int(part) for part in version[:3]) >= (3, 14, 3)


async def test_nothing_is_written_to_the_access_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with scene() as there:
        assert (await ask(there.url, OPENAI.asks())).status == 200
    assert not [record for record in caplog.records if record.name == "aiohttp.access"]
