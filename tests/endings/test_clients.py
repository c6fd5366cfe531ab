"""Whatever a client does: the provider is let go at once, the record says so, and others do not feel it."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import msgspec
import pytest

from sidegate.testing import MISBEHAVIOURS, Exchange, answering
from sidegate.testing.spoken import first_half
from sidegate.testing.voices import USED, VOICES, WORDS
from tests.abuse.sockets import Wire, request, wire
from tests.endings.ground import ANTHROPIC, CLIENTS, LONG, OPENAI, Client, Scene, scene, until

MIB = 2**20
AT_ONCE = 5.0
"""Seconds within which a provider is let go. Measured here: a few milliseconds."""

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
each_client = pytest.mark.parametrize("client", CLIENTS, ids=[client.dialect for client in CLIENTS])
leaving = pytest.mark.parametrize("how", ["FIN", "RST"])


def asks(client: Client, stream: bool) -> bytes:
    return request(client.path, msgspec.json.encode(client.body(stream)))


def leave(connection: Wire, how: str) -> None:
    if how == "RST":
        connection.reset()
    else:
        connection.writer.close()


@asynccontextmanager
async def asking(on: Scene, client: Client, stream: bool, **given: Any) -> AsyncIterator[Wire]:
    """A client that has asked, once the provider has been reached."""
    before = len(on.provider.exchanges)
    async with wire(on.running.url, **given) as connection:
        await connection.send(asks(client, stream))
        await until(lambda: len(on.provider.exchanges) > before)
        yield connection


async def only_record(on: Scene) -> Any:
    """The record of the one call in flight, once it has ended."""
    (live,) = on.running.service.live.all()
    async with asyncio.timeout(5):
        await live.done
    return await on.record(live.call.id)


# --- leaving ----------------------------------------------------------------------------------------------------------


@leaving
@both
@each_client
@pytest.mark.parametrize("silent", ["never_answers", "head_then_silence", "opening_then_silence"])
async def test_leaving_before_the_first_token_lets_the_provider_go(
    client: Client, stream: bool, how: str, silent: str
) -> None:
    async with scene(MISBEHAVIOURS[silent](client.dialect), client.dialect, timeouts=LONG) as on:
        async with asking(on, client, stream) as connection:
            ended = asyncio.create_task(only_record(on))
            await asyncio.sleep(0.02)
            leave(connection, how)
            assert await until(on.provider.exchanges[0].closed.is_set) < AT_ONCE
            record = await ended
    assert (record["ending"], record["error"], record["status"]) == ("client_gone", "client_gone", 499)
    # What was asked is estimated; what came of it nobody knows.
    assert record["input_tokens"] > 0
    assert (record["output_tokens"], record["state"]) == (None, "unknown")
    assert record["attempts"][0]["ending"] == "client_gone"


@leaving
@each_client
@pytest.mark.parametrize("silent", [True, False], ids=["while it is silent", "while it speaks"])
async def test_leaving_in_mid_stream_lets_the_provider_go(client: Client, how: str, silent: bool) -> None:
    voice = VOICES[client.dialect]

    async def speaks(exchange: Exchange) -> None:
        await first_half(exchange, voice)
        while not silent and not exchange.closed.is_set():
            await exchange.chunk(voice.begins(WORDS[0])[-1])
            await asyncio.sleep(0.005)
        await exchange.closed.wait()

    async with scene(speaks, client.dialect, timeouts=LONG) as on:
        async with asking(on, client, True) as connection:
            ended = asyncio.create_task(only_record(on))
            while WORDS[1].encode() not in await connection.reader.readuntil(b"\n\n"):
                pass
            leave(connection, how)
            assert await until(on.provider.exchanges[0].closed.is_set) < AT_ONCE
            record = await ended
    assert (record["ending"], record["state"], record["estimated"]) == ("client_gone", "settled", True)
    assert record["output_tokens"] >= 3
    if client is ANTHROPIC:
        assert record["input_tokens"] == USED[0]


@leaving
async def test_leaving_in_the_middle_of_a_body_lets_the_provider_go(how: str) -> None:
    async with scene(MISBEHAVIOURS["silent_in_mid_stream"]("openai"), timeouts=LONG) as on:
        async with asking(on, OPENAI, False) as connection:
            ended = asyncio.create_task(only_record(on))
            await asyncio.sleep(0.1)
            leave(connection, how)
            assert await until(on.provider.exchanges[0].closed.is_set) < AT_ONCE
            assert (await ended)["ending"] == "client_gone"


async def test_half_a_close_is_a_whole_one() -> None:
    """A client that shuts its sending side after the request is taken to have left. docs/streams.md says so."""
    async with scene(MISBEHAVIOURS["never_answers"]("openai"), timeouts=LONG) as on:
        async with asking(on, OPENAI, True) as connection:
            ended = asyncio.create_task(only_record(on))
            await asyncio.sleep(0.02)
            connection.writer.write_eof()
            assert await until(on.provider.exchanges[0].closed.is_set) < AT_ONCE
            assert (await ended)["ending"] == "client_gone"
            assert await connection.closed()


# --- reading slowly ---------------------------------------------------------------------------------------------------


class Flood:
    """A provider flat out: events of 16 KiB for ever. Counts what it could send."""

    def __init__(self, dialect: str) -> None:
        self._voice = VOICES[dialect]
        self.sent = 0

    async def __call__(self, exchange: Exchange) -> None:
        *opening, event = self._voice.begins("x" * 2**14)
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(opening))
        while not exchange.closed.is_set():
            await exchange.chunk(event)
            self.sent += len(event)

    async def stands(self) -> int:
        """Wait until it can send no more; gives how much it has sent."""
        seen = -1
        while seen != self.sent:
            seen = self.sent
            await asyncio.sleep(0.3)
        return seen


@each_client
@pytest.mark.parametrize("plugins", [[], [{"use": "tests.tapping:Shouting"}]], ids=["relayed", "edited"])
async def test_a_reader_that_does_not_read_stops_the_provider_and_is_cut(
    client: Client, plugins: list[dict[str, Any]]
) -> None:
    flood = Flood(client.dialect)
    async with scene(
        flood, client.dialect, timeouts=LONG, plugins=plugins, server={"send_timeout": 2.5, "drain": 1}
    ) as on:
        async with asking(on, client, True, receive_buffer=4096) as connection:
            connection.reader._transport.pause_reading()  # type: ignore[attr-defined]  # not even the head is read
            ended = asyncio.create_task(only_record(on))
            sent = await flood.stands()
            assert not ended.done(), "it is not cut before its time"
            await until(on.provider.exchanges[0].closed.is_set)
            record = await ended
    assert sent < 16 * MIB, "what the kernel's buffers hold, and nothing that grows"
    assert (record["ending"], record["error"], record["status"]) == ("client_gone", "write_timeout", 499)
    assert (record["state"], record["estimated"]) == ("settled", True)
    assert record["output_tokens"] > 1000


async def test_a_reader_of_a_byte_a_second_is_one_that_does_not_read() -> None:
    flood = Flood("openai")
    async with scene(flood, timeouts=LONG, server={"send_timeout": 2.5, "drain": 1}) as on:
        async with asking(on, OPENAI, True, receive_buffer=4096) as connection:
            ended = asyncio.create_task(only_record(on))
            transport: Any = connection.reader._transport  # type: ignore[attr-defined]
            transport.pause_reading()
            sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            with sock:
                while not ended.done():
                    await asyncio.wait([ended], timeout=1)
                    with suppress(BlockingIOError):
                        sock.recv(1)
            record = await ended
    assert (record["ending"], record["error"]) == ("client_gone", "write_timeout")
    assert record["duration"] < 4
    assert flood.sent < 16 * MIB


async def test_a_reader_that_is_slow_but_reads_gets_everything() -> None:
    """Each write must get through within the time, not the whole reply."""
    async with scene(MISBEHAVIOURS["many_tokens"]("openai"), server={"send_timeout": 0.5, "drain": 1}) as on:
        async with wire(on.running.url, receive_buffer=2**15) as connection:
            await connection.send(asks(OPENAI, True))
            got = 0
            body = b""
            while b"[DONE]" not in body[-200:]:
                piece = await connection.reader.read(2**17)
                assert piece, "it was cut"
                body += piece
                got += len(piece)
                await asyncio.sleep(0.02)
    assert body.count(b'"content":"x"') == 20_000


# --- many -------------------------------------------------------------------------------------------------------------


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def room(wanted: int, each: int) -> int:
    """How many streams the limit on open files has room for; client, gateway and provider are one process here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found = min(wanted, (hard - 500) // each)
    assert found >= 200, f"raise the limit on open files: it is {soft}"
    return found


def reached(on: Scene, count: int) -> bool:
    return len(on.provider.exchanges) == count


async def test_two_thousand_idle_streams_are_held_and_freed() -> None:
    count = room(2000, each=4)
    script = MISBEHAVIOURS["silent_in_mid_stream"]("openai")
    async with scene(script, timeouts=LONG, provider={"max_connections": 5000}) as on:
        before = descriptors()
        async with AsyncExitStack() as stack:
            streams: list[Wire] = []
            for _ in range(count // 100):
                opened = [wire(on.running.url) for _ in range(100)]
                streams += [await stack.enter_async_context(each) for each in opened]
                for each in streams[-100:]:
                    await each.send(asks(OPENAI, True))
                await until(partial(reached, on, len(streams)), 20)
            assert len(on.running.service.live) == len(streams)
            on.provider.script = answering("openai")
            assert (await on.ask(OPENAI, True)).marked
            assert len(on.running.service.live) == len(streams), "others do not wait for any of them"
            for number, each in enumerate(streams):
                leave(each, "RST" if number % 2 else "FIN")
            await until(lambda: len(on.running.service.live) == 0)
            held = on.provider.exchanges[: len(streams)]
            await until(lambda: all(exchange.closed.is_set() for exchange in held))
        await until(lambda: descriptors() < before + 20)
        assert (await on.ask(OPENAI, True)).marked


JUNK: tuple[Callable[[random.Random], bytes], ...] = (
    lambda source: b"",
    lambda source: source.randbytes(500),
    lambda source: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + source.randbytes(300),
    lambda source: b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Le",
    lambda source: (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    ),
    lambda source: b"GET /" + b"a" * 20_000,
    lambda source: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)


async def test_junk_is_closed_in_time_and_others_do_not_feel_it() -> None:
    source = random.Random(7)
    bounds = {"keepalive_timeout": 0.5, "body_timeout": 0.5, "drain": 1}
    async with scene(answering("openai"), server=bounds) as on, AsyncExitStack() as stack:
        before = descriptors()
        junk = [await stack.enter_async_context(wire(on.running.url)) for _ in range(200)]
        for number, each in enumerate(junk):
            await each.send(JUNK[number % len(JUNK)](source))
        assert (await on.ask(OPENAI, True)).marked
        async with asyncio.timeout(20):
            await asyncio.gather(*(each.answers() for each in junk))
        assert len(on.running.service.live) == 0
        assert len(on.provider.exchanges) == 1
        await stack.aclose()
        await until(lambda: descriptors() < before + 20)


async def test_a_storm_of_retries_is_shed_and_each_is_on_record() -> None:
    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.1)
        await answering("openai")(exchange)

    limits = [{"name": "all", "calls": 2}]
    plugins = [{"use": "concurrency", "settings": {"limits": limits}}]
    async with scene(slow, plugins=plugins) as on:
        storm = await asyncio.gather(*(on.ask(OPENAI, True) for _ in range(50)))
        served = [seen for seen in storm if seen.status == 200]
        shed = [seen for seen in storm if seen.status != 200]
        assert len(served) == len(on.provider.exchanges) == 2
        assert all(seen.marked for seen in served)
        assert {seen.status for seen in shed} <= {429, 503}
        assert all(int(seen.headers["Retry-After"]) >= 1 for seen in shed)
        endings = [(await on.record(seen.id))["ending"] for seen in storm]
    assert sorted(endings) == ["complete"] * 2 + ["refused"] * 48
    assert len({seen.id for seen in storm}) == 50
