"""What HTTP clients do by default and a gateway must not: each claim fails without its code."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import pytest

from sidegate.errors import ConnectError, CutError, PhaseTimeout, ProviderError, ReplyError
from sidegate.testing import Exchange, Script, ScriptedProvider, scripted
from sidegate.upstream.connection import LARGE_BODY_BYTES
from sidegate.upstream.transport import Transport
from tests.abuse.scene import ANTHROPIC, OPENAI, PROVIDER_KEY, Scene, answers, check_refusal, openai_event, scene
from tests.abuse.sockets import ask, wire
from tests.relaying import until
from tests.upstream.wires import transport

MIB = 2**20


async def post(
    on: Transport, url: str, body: bytes = b"{}", headers: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, bytes]:
    async with on.post(url, headers, body, connect_timeout=1) as response:
        return response.status, await response.read()


async def well(exchange: Exchange) -> None:
    await exchange.reply(b"{}")


# 17: total=300 kills streams, limit=100 makes calls hang


async def test_no_time_bounds_a_stream_but_those_of_the_config() -> None:
    async def slowly(exchange: Exchange) -> None:
        await asyncio.sleep(0.2)
        await exchange.head(Transfer_Encoding="chunked")
        for _ in range(2):
            await asyncio.sleep(0.2)
            await exchange.chunk(b"a")
        await exchange.chunk(b"")

    async with scripted(slowly) as provider, transport() as on:
        for _ in range(2):
            async with on.post(provider.url, {}, b"{}", connect_timeout=0.1) as response:
                assert await response.read() == b"aa"
        assert provider.connections == 1


async def test_more_than_a_hundred_streams_reach_a_provider_and_nobody_waits() -> None:
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(openai_event("hi"))
        await go_on.wait()
        for event in (openai_event(None, "stop"), b"data: [DONE]\n\n", b""):
            await exchange.chunk(event)

    async with scene(script=script) as there:
        streaming = [asyncio.ensure_future(ask(there.url, OPENAI.asks(OPENAI.body(stream=True)))) for _ in range(150)]
        await until(lambda: there.asked == 150)
        there.provider.script = answers
        async with asyncio.timeout(10):
            assert (await ask(there.url, OPENAI.asks())).status == 200
        go_on.set()
        assert {answer.status for answer in await asyncio.gather(*streaming)} == {200}


# 18: one idle timeout is not two


async def test_a_provider_that_never_begins_is_given_up_on() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.closed.wait()

    for stream in (True, False):
        async with timed(script, first_token=0.2) as there, asyncio.timeout(20):
            answer = await ask(there.url, OPENAI.asks(OPENAI.body(stream=stream)))
            assert "first token" in check_refusal(answer, OPENAI, 504)
            await there.provider.exchanges[0].closed.wait()


async def test_heads_and_comments_are_no_first_token() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        while not exchange.closed.is_set():
            await exchange.chunk(b": still working\n\n")
            await asyncio.sleep(0.02)

    async with timed(script, first_token=0.3) as there, asyncio.timeout(20):
        answer = await ask(there.url, OPENAI.asks(OPENAI.body(stream=True)))
        assert answer.status == 504 or b"first_token_timeout" in answer.body


async def test_a_stream_that_trickles_goes_on_and_one_that_stalls_is_cut() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        for _ in range(8):
            await exchange.chunk(openai_event("a"))
            await asyncio.sleep(0.1)
        await exchange.closed.wait()

    async with timed(script, idle=0.6) as there, asyncio.timeout(20):
        answer = await ask(there.url, OPENAI.asks(OPENAI.body(stream=True)))
        assert answer.body.count(b'"content"') == 8
        assert b"idle_timeout" in answer.body
        assert b"[DONE]" not in answer.body
        await there.provider.exchanges[0].closed.wait()


async def test_a_slow_reader_is_not_a_silent_provider() -> None:
    async with timed(pours(40), idle=0.4) as there, wire(there.url, receive_buffer=4096) as connection:
        reading = connection.reader._transport  # type: ignore[attr-defined]
        await connection.send(OPENAI.asks(OPENAI.body(stream=True)))
        await connection.reader.readexactly(100)
        reading.pause_reading()
        await asyncio.sleep(1)
        reading.resume_reading()
        rest = b""
        async with asyncio.timeout(5):
            while b"[DONE]" not in rest:
                rest = rest[-1000:] + await connection.reader.read(2**16)
                assert b"idle_timeout" not in rest


@asynccontextmanager
async def timed(script: Script, **timeouts: float) -> AsyncIterator[Scene]:
    async with scripted(script) as provider:
        named = {"dialect": "openai", "base_url": provider.url, "api_key": "k1", "timeouts": timeouts}
        async with scene(providers={"o": named}, models={"gpt": {"provider": "o"}}) as there:
            yield Scene(there.running, provider)


def pours(count: int) -> Callable[[Exchange], Awaitable[None]]:
    """Events of 60 kB, then a clean end."""

    async def script(exchange: Exchange) -> None:
        await exchange.stream(*[openai_event("a" * 60_000)] * count, openai_event(None, "stop"), b"data: [DONE]\n\n")

    return script


# 19: reading is bounded


async def test_a_provider_is_slowed_by_a_reader_that_stands_still() -> None:
    sent = 0

    async def script(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.head(Transfer_Encoding="chunked")
        while sent < 64 * MIB:
            await exchange.chunk(openai_event("a" * 60_000))
            sent += 60_000

    async with scene(script=script) as there, wire(there.url, receive_buffer=4096) as connection:
        connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await connection.send(OPENAI.asks(OPENAI.body(stream=True)))
        await until(lambda: sent > 0)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 32 * MIB


# 20: a kept connection that was closed meanwhile


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
async def test_a_kept_connection_that_was_closed_costs_one_request_more_and_no_error(reset: bool) -> None:
    async with closing(b"", reset) as (provider, on, again):
        assert await post(on, provider.url) == (200, b'{"again": true}')
        assert (len(provider.exchanges), provider.connections, again) == (3, 2, [None])


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12"])
async def test_a_request_that_was_heard_is_never_sent_again(said: bytes, reset: bool) -> None:
    async with closing(said, reset) as (provider, on, again):
        with pytest.raises(CutError):
            await post(on, provider.url)
        assert (len(provider.exchanges), again) == (2, [])


async def test_a_request_on_a_new_connection_is_never_sent_again() -> None:
    async def script(exchange: Exchange) -> None:
        exchange.close()

    async with scripted(script) as provider, transport() as on:
        with pytest.raises(CutError):
            await post(on, provider.url)
        assert len(provider.exchanges) == 1


async def test_a_request_is_sent_again_once() -> None:
    async def script(exchange: Exchange) -> None:
        if len(provider.exchanges) == 1:
            return await exchange.reply(b"{}")
        return exchange.close()

    async with scripted(script) as provider, transport() as on:
        await post(on, provider.url)
        with pytest.raises(CutError):
            await post(on, provider.url)
        assert len(provider.exchanges) == 3


async def test_connections_are_kept() -> None:
    async with scripted(well) as provider, transport() as on:
        for _ in range(5):
            await post(on, provider.url)
        assert (len(provider.exchanges), provider.connections) == (5, 1)


@asynccontextmanager
async def closing(said: bytes, reset: bool) -> AsyncIterator[tuple[ScriptedProvider, Transport, list[None]]]:
    """A provider that answers, then closes on the next request after `said`, then answers again."""

    async def script(exchange: Exchange) -> None:
        if len(provider.exchanges) == 1:
            return await exchange.reply(b"{}")
        if len(provider.exchanges) > 2:
            return await exchange.reply(b'{"again": true}')
        if said:
            await exchange.send(said)
            await asyncio.sleep(0.02)  # so that it is heard before the end is
        return exchange.reset() if reset else exchange.close()

    again: list[None] = []
    async with scripted(script) as provider, transport(lambda: again.append(None)) as on:
        assert await post(on, provider.url) == (200, b"{}")
        yield provider, on, again


# 21: redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("shape", [OPENAI, ANTHROPIC], ids=lambda shape: shape.name)
async def test_key_and_prompt_follow_no_redirect(status: int, shape: Any) -> None:
    async with scripted(answers) as bait:

        async def script(exchange: Exchange) -> None:
            await exchange.reply(b"", status, Location=f"{bait.url}/messages")

        async with scene(script=script) as there:
            answer = await ask(there.url, shape.asks())
            check_refusal(answer, shape, 502)
            assert answer.header("location") is None
        assert bait.connections == 0


# 22: cookies


async def test_a_cookie_of_one_call_is_not_sent_with_another() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(b"{}", Set_Cookie="tenant=a; Path=/")

    async with scripted(script) as provider, transport() as on:
        # Jars mostly take none from bare addresses, which would hide one that keeps them.
        url = provider.url.replace("127.0.0.1", "localhost")
        for _ in range(2):
            await post(on, url)
        assert [exchange.headers.get("cookie") for exchange in provider.exchanges] == [None, None]


# 23: header values


@pytest.mark.parametrize("value", ["a\r\nx-smuggled: b", "a\nb", "a\rb", "a\0b"])
async def test_a_header_that_would_split_the_request_is_not_sent(value: str) -> None:
    async with scripted(well) as provider, transport() as on:
        with pytest.raises(ProviderError):
            await post(on, provider.url, headers={"x-value": value})
        assert provider.exchanges == []


# 24: proxies of the environment


async def test_a_proxy_of_the_environment_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(answers) as bait, scripted(well) as provider:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, bait.url)
        async with transport() as on:
            await post(on, provider.url.replace("127.0.0.1", "localhost"))
        assert (bait.connections, len(provider.exchanges)) == (0, 1)


# what is not reached


async def test_a_name_that_is_not_resolved_in_time_is_a_connect_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(*args: Any, **kwargs: Any) -> list[Any]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", silent)
    async with transport() as on, asyncio.timeout(20):
        with pytest.raises(PhaseTimeout) as caught:
            async with on.post("http://provider.example/", {}, b"{}", connect_timeout=0.2):
                pass
    assert caught.value.phase == "connect"


async def test_a_port_nobody_listens_on_is_a_connect_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with transport() as on:
            with pytest.raises(ConnectError):
                await post(on, f"http://127.0.0.1:{unused.getsockname()[1]}")


async def test_tls_where_none_is_spoken_is_a_connect_error() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server, transport() as on:
        with pytest.raises(ConnectError):
            await post(on, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def test_what_is_no_http_is_a_reply_error() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"\x16\x03\x01 what?\r\n\r\n")

    async with scripted(script) as provider, transport() as on:
        with pytest.raises(ReplyError):
            await post(on, provider.url)


# bodies


@pytest.mark.parametrize("size", [LARGE_BODY_BYTES - 1, LARGE_BODY_BYTES, 5 * MIB])
async def test_a_large_body_arrives_whole_also_when_it_is_sent_again(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    async with closing(b"", False) as (provider, on, again):
        await post(on, provider.url, body[:size])
        assert provider.exchanges[-1].body == body[:size]
        assert again == [None]


async def test_leaving_early_closes_the_connection_and_reading_to_the_end_keeps_it() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"a")
        await exchange.closed.wait()

    async with scripted(script) as provider, transport() as on:
        async with on.post(provider.url, {}, b"{}", connect_timeout=1) as response:
            assert await response.piece() == b"a"
        async with asyncio.timeout(10):
            await provider.exchanges[0].closed.wait()


async def test_no_header_of_the_transports_own_goes_out() -> None:
    async with scripted(well) as provider, transport() as on:
        await post(on, provider.url)
        assert set(provider.exchanges[0].headers) == {"host", "content-length"}
    async with scene() as there:
        assert (await ask(there.url, OPENAI.asks())).status == 200
        headers = there.provider.exchanges[0].headers
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"].startswith("sidegate/")
    assert headers["authorization"] == f"Bearer {PROVIDER_KEY}"
