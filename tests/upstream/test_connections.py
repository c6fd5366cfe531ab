"""Connections are kept for the next request only where nothing can be left of the one before."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidegate.errors import CutError, ReplyError
from sidegate.testing import Exchange, scripted
from sidegate.upstream import connection, pool
from sidegate.upstream.response import BUFFER_BYTES
from tests.relaying import until
from tests.upstream.wires import CHUNKED, OK, fed, saying, serving, told, transport

MIB = 2**20


async def post(on: Any, url: str) -> bytes:
    async with on.post(url, {}, b"{}", connect_timeout=5) as response:
        body: bytes = await response.read()
        return body


@pytest.mark.parametrize(
    "first",
    [
        told(2) + b"a1" + told(2) + b"xx",
        told(2) + b"a1GARBAGE",
        told(2) + b"a1\0",
        CHUNKED + b"2\r\na1\r\n0\r\n\r\n" + told(2) + b"xx",
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\na1" + told(2) + b"xx",
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\na1",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\na1",
    ],
    ids=["another reply", "garbage", "a byte", "after chunks", "after close", "close", "HTTP/1.0"],
)
async def test_a_reply_is_whole_and_what_follows_it_is_nobodys(first: bytes) -> None:
    async with saying([first], [told(2) + b"b2"]) as server, transport() as on:
        assert await post(on, server.url) == b"a1"
        assert await post(on, server.url) == b"b2"
        assert server.connections == 2


@pytest.mark.parametrize("late", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nxx", b"x", b"\r\n"])
async def test_a_connection_that_speaks_unasked_is_dropped(late: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(b"a%d" % len(provider.exchanges))
        if len(provider.exchanges) == 1:
            await go_on.wait()
            await exchange.send(late)
            await exchange.closed.wait()

    go_on = asyncio.Event()
    async with scripted(script) as provider, transport() as on:
        assert await post(on, provider.url) == b"a1"
        go_on.set()
        async with asyncio.timeout(5):
            await provider.exchanges[0].closed.wait()
        assert await post(on, provider.url) == b"a2"
        assert provider.connections == 2


async def test_what_waits_in_the_socket_is_seen_before_the_connection_is_used() -> None:
    """The loop has not run since the bytes came: nobody has read them yet."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        async with fed() as there:
            there.wire._extra["socket"] = ours  # type: ignore[attr-defined]
            there.connection.connection_made(there.wire)
            assert there.connection.is_fresh()
            theirs.send(b"x")
            assert not there.connection.is_fresh()


async def test_http_1_0_that_keeps_alive_is_kept() -> None:
    said = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n"
    async with saying([said + b"a1"], [said + b"b2"]) as server, transport() as on:
        assert [await post(on, server.url), await post(on, server.url)] == [b"a1", b"b2"]
        assert server.connections == 1


async def test_the_connection_used_last_is_used_first() -> None:
    """So that those that a peak needed grow old and go."""
    waits: list[asyncio.Event] = []

    async def script(exchange: Exchange) -> None:
        waits.append(asyncio.Event())
        await waits[-1].wait()
        await exchange.reply(exchange.path.encode())

    async with scripted(script) as provider, transport() as on:
        asking = [asyncio.ensure_future(post(on, f"{provider.url}/{name}")) for name in "ab"]
        await until(lambda: len(waits) == 2)
        for at in (0, 1):
            waits[at].set()
            await asking[at]
        used_last = provider.exchanges[1]._writer
        third = asyncio.ensure_future(post(on, f"{provider.url}/c"))
        await until(lambda: len(waits) == 3)
        assert provider.exchanges[2]._writer is used_last
        waits[2].set()
        await third


async def test_an_idle_connection_is_closed_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "KEPT_SECONDS", 0.1)

    async def script(exchange: Exchange) -> None:
        await exchange.reply(b"a")
        await exchange.closed.wait()

    async with scripted(script) as provider, transport() as on:
        await post(on, provider.url)
        async with asyncio.timeout(5):
            await provider.exchanges[0].closed.wait()
        assert on.in_use == []


@pytest.mark.parametrize("begun", [True, False])
async def test_nothing_stays_open_after_the_stop(begun: bool) -> None:
    """A request of which not a byte is answered on a kept connection is sent again, but not by one that stops."""

    async def script(exchange: Exchange) -> None:
        if exchange.path == "/a":
            await exchange.reply(b"a")
            return
        if begun:
            await exchange.head(Transfer_Encoding="chunked")
        await exchange.closed.wait()

    async with scripted(script) as provider:
        async with transport() as on:
            await post(on, provider.url + "/a")
            reading = asyncio.ensure_future(post(on, provider.url + "/b"))
            await until(lambda: len(provider.exchanges) == 2)
        with pytest.raises(CutError):
            await asyncio.wait_for(reading, 20)
        async with asyncio.timeout(5):
            await provider.exchanges[1].closed.wait()
        assert len(provider.exchanges) == 2


@pytest.mark.parametrize("where", ["head", "body"])
async def test_a_cancelled_call_closes_its_connection_at_once(where: str) -> None:
    async def script(exchange: Exchange) -> None:
        if where == "body":
            await exchange.head(Transfer_Encoding="chunked")
        await exchange.closed.wait()

    async with scripted(script) as provider, transport() as on:
        asking = asyncio.ensure_future(_read(on, provider.url, b"{}"))
        await until(lambda: bool(provider.exchanges))
        await _cancelled(asking)
        async with asyncio.timeout(5):
            await provider.exchanges[0].closed.wait()
        assert on.in_use == []


@pytest.mark.parametrize(("scheme", "size"), [("https", 2), ("http", 64 * MIB)], ids=["handshake", "upload"])
async def test_a_call_that_is_cancelled_before_it_is_sent_closes_its_connection(scheme: str, size: int) -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        heard.set()
        await leaving.wait()
        with suppress(ConnectionError):
            while read := await reader.read(MIB):
                sizes.append(len(read))
        left.set()

    sizes: list[int] = []
    heard, leaving, left = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with serving(deaf) as address, transport() as on:
        asking = asyncio.ensure_future(_read(on, f"{scheme}://{address}", b"x" * size))
        await heard.wait()
        await _cancelled(asking)
        leaving.set()
        async with asyncio.timeout(5):
            await left.wait()
        assert sum(sizes) < 32 * MIB
        assert on.in_use == []


async def _cancelled(asking: asyncio.Future[None]) -> None:
    await asyncio.sleep(0.05)
    assert not asking.done()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def _read(on: Any, url: str, body: bytes) -> None:
    async with on.post(url, {}, body, connect_timeout=30) as response:
        await response.read()


async def test_a_provider_that_answers_during_a_large_body_is_heard() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await closed.wait()

    closed = asyncio.Event()
    async with serving(refuse) as address, transport() as on:
        body = b"x" * 64 * MIB
        async with asyncio.timeout(10), on.post(f"http://{address}", {}, body, connect_timeout=5) as response:
            assert (response.status, await response.read()) == (413, b"no")
        # The provider waits for the rest of a body that will not come: not a connection to keep.
        assert on.in_use == []


async def test_a_slow_reader_slows_the_provider_and_loses_nothing() -> None:
    async with fed() as there:
        asking = asyncio.ensure_future(there.connection.ask(b"GET / HTTP/1.1\r\n\r\n", b""))
        await asyncio.sleep(0)
        there.feed([told(3 * BUFFER_BYTES), b"a" * (BUFFER_BYTES - 1)])
        response = await asking
        assert there.wire.reading
        there.feed([b"b"])
        assert not there.wire.reading
        assert len(await response.piece()) == BUFFER_BYTES
        assert there.wire.reading
        there.feed([b"c" * 2 * BUFFER_BYTES])
        # Whole, so its connection is free, and listens for its own end.
        assert there.keeper.given == [there.connection]
        assert there.wire.reading
        assert await response.piece() == b"c" * 2 * BUFFER_BYTES
        assert await response.piece() == b""


async def test_the_end_of_a_complete_reply_is_waited_for_within_bounds() -> None:
    async with fed() as there:
        asking = asyncio.ensure_future(there.connection.ask(b"GET / HTTP/1.1\r\n\r\n", b""))
        await asyncio.sleep(0)
        there.feed([CHUNKED + b"2\r\nhi\r\n"])
        response = await asking
        assert await response.piece() == b"hi"
        response.complete = True
        response.close()
        assert not there.wire.closed
        there.feed([b"0\r\n\r\n"])
        assert there.keeper.given == [there.connection]
    async with fed() as there:
        asking = asyncio.ensure_future(there.connection.ask(b"GET / HTTP/1.1\r\n\r\n", b""))
        await asyncio.sleep(0)
        there.feed([CHUNKED + b"2\r\nhi\r\n"])
        response = await asking
        response.complete = True
        response.close()
        there.feed([b"ffff\r\n" + b"a" * 0xFFFF + b"\r\n"] * 2)
        assert there.wire.closed
        assert there.keeper.given == []


async def test_the_end_of_a_complete_reply_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.1)

    async def script(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"a")
        await exchange.closed.wait()

    async with scripted(script) as provider, transport() as on:
        async with on.post(provider.url, {}, b"{}", connect_timeout=5) as response:
            await response.piece()
            response.complete = True
        assert len(on.in_use) == 1
        async with asyncio.timeout(5):
            await provider.exchanges[0].closed.wait()


# --- any cutting, any damage ------------------------------------------------------------------------------------------

bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
extensions = st.sampled_from([b"", b";a", b";a=1", b';a="b c"'])
trailers = st.sampled_from([b"", b"X: 1\r\n", b"X: 1\r\nY: 2\r\n"])
interims = st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\n"])


@st.composite
def replies(draw: st.DrawFn) -> tuple[bytes, bytes, bool]:
    """A valid reply: its bytes, its body, and whether only the end of the connection ends it."""
    parts = draw(bodies)
    body = b"".join(parts)
    framing = draw(st.sampled_from(["length", "chunks", "end"]))
    start = draw(interims) + OK + draw(st.sampled_from([b"", b"X: 1\r\nx: 2\r\n"]))
    if framing == "length":
        return start + b"Content-Length: %d\r\n\r\n" % len(body) + body, body, False
    if framing == "end":
        return start + b"\r\n" + body, body, True
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(part), draw(extensions), part) for part in parts)
    return start + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + draw(trailers) + b"\r\n", body, False


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(place, len(data)) for place in cuts} | {0, len(data)})
    return [data[a:b] for a, b in zip(places, places[1:], strict=False)]


cuttings = st.lists(st.integers(1, 400), max_size=12)


@settings(deadline=None)
@given(replies(), cuttings)
def test_a_reply_is_the_same_however_its_bytes_are_cut(reply: tuple[bytes, bytes, bool], cuts: list[int]) -> None:
    data, body, ends = reply

    async def read() -> None:
        async with fed() as there:
            assert await there.exchange(cut(data, cuts), ends=ends) == (200, body)
            assert bool(there.keeper.given) is not ends

    asyncio.run(read())


@settings(deadline=None)
@given(replies(), cuttings, st.binary(min_size=1, max_size=60).filter(lambda extra: extra.strip(b"\r\n") != b""))
def test_nothing_after_a_reply_reaches_the_next_caller(
    reply: tuple[bytes, bytes, bool], cuts: list[int], extra: bytes
) -> None:
    data, body, ends = reply
    if ends:
        return

    async def read() -> None:
        async with fed() as there:
            assert await there.exchange(cut(data + extra, cuts), ends=False) == (200, body)
            assert there.wire.closed

    asyncio.run(read())


@settings(max_examples=300, deadline=None)
@given(replies(), cuttings, st.integers(0, 400), st.integers(0, 3), st.binary(max_size=5))
def test_a_damaged_reply_ends_in_a_reply_or_in_a_named_error(
    reply: tuple[bytes, bytes, bool], cuts: list[int], place: int, gone: int, put: bytes
) -> None:
    data = reply[0][:place] + put + reply[0][place + gone :]

    async def read() -> None:
        async with fed() as there:
            try:
                status, _ = await there.exchange(cut(data, cuts), ends=True)
                assert 200 <= status < 600
            except (ReplyError, CutError):
                assert there.keeper.given == []

    asyncio.run(read())


@settings(deadline=None)
@given(replies(), st.integers(0, 400))
def test_a_reply_that_stops_is_never_whole(reply: tuple[bytes, bytes, bool], place: int) -> None:
    data, _, ends = reply
    if ends or place >= len(data):
        return

    async def read() -> None:
        async with fed() as there:
            with pytest.raises(CutError):
                await there.exchange([data[:place]] if place else [], ends=True)
            assert there.keeper.given == []

    asyncio.run(read())
