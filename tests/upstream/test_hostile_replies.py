"""Replies that are no HTTP, or stop being it: each ends with a named error, never a hang and never a clean end."""

from __future__ import annotations

import asyncio

import pytest

from sidegate.errors import CutError, ReplyError
from sidegate.upstream.reader import MAX_HEADER_BYTES
from tests.upstream.wires import CHUNKED, OK, RawServer, saying, told, transport

BODY = b"5\r\nhello\r\n0\r\n\r\n"

NO_HTTP = {
    "nothing like it": b"\x16\x03\x01 what?\r\n\r\n",
    "another protocol": b"RTSP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "no status": b"HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 1\r\n\r\nx",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 1\r\n\r\nx",
    "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 1\r\n\r\nx",
    "status 199": b"HTTP/1.1 199 OK\r\nContent-Length: 1\r\n\r\nx",
    "status 600": b"HTTP/1.1 600 OK\r\nContent-Length: 1\r\n\r\nx",
    "two spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 1\r\n\r\nx",
    "101": b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n" + told(1) + b"x",
    "length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
    "chunks and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + BODY,
    "the same length twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "two lengths in one": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "a signed length": OK + b"Content-Length: +5\r\n\r\nhello",
    "a negative length": OK + b"Content-Length: -5\r\n\r\nhello",
    "a length in hex": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "an empty length": OK + b"Content-Length:\r\n\r\nhello",
    "a length beyond all": OK + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + BODY,
    "chunked, gzip": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + BODY,
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nhello",
    "xchunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n" + BODY,
    "chunks in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
    "chunks with 204": b"HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
    "a space before the colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "a space in a name": OK + b"X y: 1\r\nContent-Length: 5\r\n\r\nhello",
    "no name": OK + b": 1\r\nContent-Length: 5\r\n\r\nhello",
    "no colon": OK + b"nonsense\r\nContent-Length: 5\r\n\r\nhello",
    "a vertical tab": OK + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + BODY,
    "a NUL": OK + b"X: a\0b\r\nContent-Length: 5\r\n\r\nhello",
    "a bare CR": OK + b"X: a\rb\r\nContent-Length: 5\r\n\r\nhello",
    "a bare LF": OK + b"X: a\nContent-Length: 5\r\n\r\nhello",
    "a folded line": OK + b"X: a\r\n b\r\nContent-Length: 5\r\n\r\nhello",
    "a head without end": OK + b"X: 1\r\n" * 20_000,
    "a line without end": OK + b"X: " + b"a" * 100_000,
    "a reason without end": b"HTTP/1.1 200 " + b"a" * 100_000,
    "interim replies without end": b"HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\n" * 2_000,
    "an unknown encoding": OK + b"Content-Encoding: br\r\nContent-Length: 5\r\n\r\nhello",
}

BROKEN = {
    "a size that is none": CHUNKED + b"x\r\nhello\r\n0\r\n\r\n",
    "a negative size": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "a size with 0x": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "no size": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "a size beyond all": CHUNKED + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "a size and LF": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "a size and CR": CHUNKED + b"5\rhello\r\n0\r\n\r\n",
    "a size too small": CHUNKED + b"4\r\nhello\r\n0\r\n\r\n",
    "a chunk and LF": CHUNKED + b"5\r\nhello\n0\r\n\r\n",
    "an end of LF": CHUNKED + b"5\r\nhello\r\n0\n\n",
    "a NUL in an extension": CHUNKED + b"5;a=\0\r\nhello\r\n0\r\n\r\n",
    "an extension without end": CHUNKED + b"5;" + b"a" * 100_000,
    "trailers without end": CHUNKED + b"5\r\nhello\r\n0\r\n" + b"X: 1\r\n" * 20_000,
    "a length in the trailers": CHUNKED + b"5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n",
    "a trailer of LF": CHUNKED + b"5\r\nhello\r\n0\r\nX: 1\n\r\n",
}

CUT = {
    "nothing": b"",
    "a word": b"HTT",
    "a status": OK,
    "half a head": OK + b"Content-Le",
    "no body": told(5),
    "half a body": told(5) + b"he",
    "no chunk": CHUNKED,
    "half a size": CHUNKED + b"5",
    "half a chunk": CHUNKED + b"5\r\nhe",
    "no end": CHUNKED + b"5\r\nhello\r\n",
    "half an end": CHUNKED + b"5\r\nhello\r\n0\r\n",
    "half a trailer": CHUNKED + b"5\r\nhello\r\n0\r\nX: 1\r\n",
    "an interim reply": b"HTTP/1.1 100 Continue\r\n\r\n",
    "half of gzip": OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0",
}


async def ask(server: RawServer) -> tuple[int, bytes]:
    async with transport() as on, asyncio.timeout(10):
        async with on.post(server.url, {}, b"{}", connect_timeout=5) as response:
            return response.status, await response.read()


def pieces(said: bytes, one_by_one: bool) -> list[bytes]:
    """The whole at once, or its first part byte by byte: the length of what has no end tells nothing more."""
    return [said[at : at + 1] for at in range(min(len(said), 600))] + [said[600:]] if one_by_one else [said]


slowly = pytest.mark.parametrize("one_by_one", [False, True], ids=["at once", "byte by byte"])


@slowly
@pytest.mark.parametrize("said", NO_HTTP.values(), ids=NO_HTTP.keys())
async def test_what_is_no_http_is_refused_and_the_connection_closed(said: bytes, one_by_one: bool) -> None:
    async with saying(pieces(said, one_by_one)) as server:
        with pytest.raises(ReplyError):
            await ask(server)
        async with asyncio.timeout(5):
            await server.closed.wait()
        assert len(server.requests) == 1


@slowly
@pytest.mark.parametrize("said", BROKEN.values(), ids=BROKEN.keys())
async def test_a_body_that_stops_being_http_is_cut(said: bytes, one_by_one: bool) -> None:
    async with saying(pieces(said, one_by_one)) as server:
        with pytest.raises(CutError):
            await ask(server)
        async with asyncio.timeout(5):
            await server.closed.wait()
        assert len(server.requests) == 1


@pytest.mark.parametrize("ends", ["FIN", "reset"])
@pytest.mark.parametrize("said", CUT.values(), ids=CUT.keys())
async def test_what_ends_before_its_end_is_cut(said: bytes, ends: str) -> None:
    async with saying([said], ends=ends) as server:
        with pytest.raises(CutError):
            await ask(server)
        assert len(server.requests) == 1


async def test_a_body_until_the_end_is_whole_by_fin_and_cut_by_a_reset() -> None:
    async with saying([OK + b"\r\nhel", b"lo"], ends="FIN") as server:
        assert await ask(server) == (200, b"hello")
    async with saying([OK + b"\r\nhello"], ends="reset") as server:
        with pytest.raises(CutError):
            await ask(server)


async def test_what_came_before_the_cut_is_given_before_the_error() -> None:
    async with saying([CHUNKED, b"5\r\nhello\r\n", b"nonsense\r\n"]) as server, transport() as on:
        async with on.post(server.url, {}, b"{}", connect_timeout=5) as response:
            await server.closed.wait()
            assert await response.piece() == b"hello"
            with pytest.raises(CutError):
                await response.piece()


@pytest.mark.parametrize("size", [MAX_HEADER_BYTES // 2, MAX_HEADER_BYTES - 100])
async def test_a_large_head_within_the_bound_is_read(size: int) -> None:
    said = OK + b"X: " + b"a" * size + b"\r\nContent-Length: 5\r\n\r\nhello"
    for one_by_one in (False, True):
        async with saying(pieces(said, one_by_one)) as server:
            assert await ask(server) == (200, b"hello")


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: </x>\r\nContent-Length: 3\r\n\r\n"
        + told(5)
        + b"hello",
        b"\r\n" + told(5) + b"hello",
        b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"content-length:5\t \r\n\r\nhello",
        OK + b"TRANSFER-ENCODING: Chunked \r\n\r\n" + BODY,
        CHUNKED + b'2;a="b;c";d\r\nhe\r\n00003\r\nllo\r\n000\r\nX: 1\r\nY: 2\r\n\r\n',
        OK + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"X-\xc3\xa9: 1\r\n".replace(b"\xc3\xa9", b"e") + b"Y: \xff\xfe\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=["interim", "blank line first", "no reason", "tight", "case", "extensions and trailers", "upgrade", "bytes"],
)
@slowly
async def test_what_http_allows_is_read(said: bytes, one_by_one: bool) -> None:
    async with saying(pieces(said, one_by_one)) as server:
        assert await ask(server) == (200, b"hello")


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_has_none(status: int) -> None:
    async with saying([b"HTTP/1.1 %d None\r\nContent-Length: 5\r\n\r\n" % status]) as server:
        assert await ask(server) == (status, b"")
