"""Dialling: names are asked for once, addresses tried side by side, and a bad address says so."""

from __future__ import annotations

import asyncio
import gzip
import socket
import zlib
from typing import Any

import pytest

from sidegate.errors import ConnectError, CutError, PhaseTimeout, ReplyError
from sidegate.testing import Exchange, scripted
from sidegate.upstream import dialer
from sidegate.upstream.destination import Origin, read_url, write_opening
from sidegate.upstream.inflater import inflater
from tests.upstream.wires import serving, transport


async def well(exchange: Exchange) -> None:
    await exchange.reply(b"{}")


class Names:
    """Stands in for the resolver of the loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
        self.asked: list[str] = []
        self.answered = asyncio.Event()
        self.answered.set()
        self._hosts = hosts
        self._real = asyncio.get_running_loop().getaddrinfo
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._resolve)

    async def _resolve(self, host: str, port: int, **kwargs: Any) -> list[Any]:
        if host[0].isdigit():
            # uvloop asks for addresses, too, when it connects a socket.
            return await self._real(host, port, **kwargs)
        self.asked.append(host)
        await self.answered.wait()
        if not self._hosts:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self._hosts]


async def got(on: Any, url: str, seconds: float = 5) -> int:
    async with on.post(url, {}, b"{}", connect_timeout=seconds) as response:
        await response.read()
        status: int = response.status
        return status


async def test_a_name_is_asked_for_once_by_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(well) as provider, transport() as on:
        names = Names(monkeypatch, "127.0.0.1")
        names.answered.clear()
        url = provider.url.replace("127.0.0.1", "provider.example")
        asking = [asyncio.ensure_future(got(on, url)) for _ in range(3)]
        await asyncio.sleep(0.05)
        asking.pop().cancel()
        names.answered.set()
        assert await asyncio.gather(*asking) == [200, 200]
        assert names.asked == ["provider.example"]


async def test_a_name_is_forgotten_after_a_moment_and_where_it_led_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    async def closes(exchange: Exchange) -> None:
        await exchange.reply(b"{}", Connection="close")

    async with scripted(closes) as provider, transport() as on:
        names = Names(monkeypatch, "127.0.0.1")
        url = provider.url.replace("127.0.0.1", "provider.example")
        await got(on, url)
        await got(on, url)
        assert len(names.asked) == 1
        monkeypatch.setattr(dialer, "REMEMBERED_SECONDS", -1)
        provider.script = well
    async with transport() as on:
        for _ in range(2):
            with pytest.raises(ConnectError):
                await got(on, url)
        assert len(names.asked) == 3


async def test_a_name_nobody_knows_is_a_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch)
    async with transport() as on:
        with pytest.raises(ConnectError):
            await got(on, "http://provider.example/")


async def test_an_address_that_refuses_does_not_stop_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(well) as provider, transport() as on:
        # The provider listens on 127.0.0.1 only.
        Names(monkeypatch, "127.0.0.2", "127.0.0.1")
        assert await got(on, provider.url.replace("127.0.0.1", "provider.example")) == 200


async def test_a_handshake_that_does_not_come_is_a_connect_timeout() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as address, transport() as on:
        with pytest.raises(PhaseTimeout) as caught:
            await got(on, f"https://{address}", 0.2)
    assert caught.value.phase == "connect"


@pytest.mark.parametrize(
    "url",
    ["", "provider", "ftp://h/", "http://", "http://h:99999/", "http://h:x/", "http://a:b@h/", "//h/", "http://[::1/"],
)
async def test_an_address_that_is_none_of_http_is_a_connect_error(url: str) -> None:
    async with transport() as on:
        with pytest.raises(ConnectError):
            await got(on, url)


def test_a_url_is_read_as_it_goes_out() -> None:
    assert read_url("http://h/v1/a?b=c#d") == (Origin(False, "h", 80), "h", "/v1/a?b=c")
    assert read_url("https://H.example:8443")[:2] == (Origin(True, "h.example", 8443), "h.example:8443")
    assert read_url("http://[::1]:81/ü x") == (Origin(False, "::1", 81), "[::1]:81", "/%C3%BC%20x")
    assert read_url("https://bücher.example/").host == "xn--bcher-kva.example"


@pytest.mark.parametrize("name", ["content-length", "Transfer-Encoding", "Expect", "upgrade", "a b", "", "a:", "é"])
def test_a_header_that_would_frame_the_request_anew_is_not_sent(name: str) -> None:
    with pytest.raises(ConnectError):
        write_opening("POST", read_url("http://h/"), {name: "1"}, bodiless=False)


def test_the_head_of_a_request() -> None:
    to = read_url("http://h:81/a")
    posted, got = write_opening("POST", to, {"A": "b"}, bodiless=False), write_opening("GET", to, {}, bodiless=True)
    assert posted.head(0) == b"POST /a HTTP/1.1\r\nHost: h:81\r\nA: b\r\nContent-Length: 0\r\n\r\n"
    assert posted.head(12) == b"POST /a HTTP/1.1\r\nHost: h:81\r\nA: b\r\nContent-Length: 12\r\n\r\n"
    assert got.head(0) == b"GET /a HTTP/1.1\r\nHost: h:81\r\n\r\n"
    other = write_opening("GET", to, {"host": "other"}, bodiless=True)
    assert other.head(0) == b"GET /a HTTP/1.1\r\nhost: other\r\n\r\n"


def inflate(encoding: str, pieces: list[bytes]) -> bytes:
    body = inflater(encoding)
    assert body is not None
    out = b""
    for piece in pieces:
        body.feed(piece)
        while data := body.more():
            assert len(data) <= 2**16
            out += data
    body.end()
    return out


def test_what_is_compressed_though_nobody_asked_is_inflated_in_pieces() -> None:
    text = b"hello " * 100_000
    raw = zlib.compressobj(wbits=-15)
    for encoding, data in (
        ("gzip", gzip.compress(text)),
        ("X-GZip ", gzip.compress(text[:6]) + gzip.compress(text[6:])),
        ("deflate", zlib.compress(text)),
        ("deflate", raw.compress(text) + raw.flush()),
    ):
        assert inflate(encoding, [data]) == text
        assert inflate(encoding, [data[at : at + 1] for at in range(len(data))]) == text
    assert inflater("identity") is None


def test_what_cannot_be_inflated_has_its_error() -> None:
    with pytest.raises(ReplyError):
        inflate("gzip", [b"this is no gzip"])
    with pytest.raises(CutError):
        inflate("gzip", [gzip.compress(b"hello")[:-4]])
    with pytest.raises(ReplyError):
        inflater("zstd")


async def test_a_bomb_meets_the_bound_and_not_the_memory() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(gzip.compress(b"\0" * 64 * 2**20), Content_Encoding="gzip")

    async with scripted(script) as provider, transport() as on:
        async with on.post(provider.url, {}, b"{}", connect_timeout=5) as response:
            with pytest.raises(ReplyError, match="too large"):
                await response.read(2**20)
