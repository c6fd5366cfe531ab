"""Frames that no client should send, clients that say nothing, pages of elsewhere: closed, told, and on record."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from sidegate.testing import Running
from tests.realtime.ground import KEY, gateway_for, keys, rows
from tests.realtime.provider import Provider, realtime_provider

QUICK = {"ping": 0.1, "pong": 0.3, "idle": 30, "closing": 0.5, "max_message_bytes": 4096}


@asynccontextmanager
async def served(**sockets: Any) -> AsyncIterator[tuple[Running, Provider]]:
    bounds = {**QUICK, "ping": 30, **sockets}
    async with realtime_provider() as provider, gateway_for(provider, keys(), sockets=bounds) as running:
        yield running, provider


class Raw:
    """A client that writes its frames itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def frame(self, opcode: int, payload: bytes, *, masked: bool = True, length: int | None = None) -> None:
        size = len(payload) if length is None else length
        bit = 0x80 if masked else 0
        head = bytes([0x80 | opcode]) + (bytes([bit | size]) if size < 126 else struct.pack("!BH", bit | 126, size))
        # A mask of zeros leaves what it masks as it is.
        self.writer.write(head + (b"\0\0\0\0" if masked else b"") + payload)

    async def until(self, opcode: int) -> bytes:
        """The payload of the next frame of a kind."""
        async with asyncio.timeout(10):
            while True:
                first, second = await self.reader.readexactly(2)
                size = second & 0x7F
                if size == 126:
                    (size,) = struct.unpack("!H", await self.reader.readexactly(2))
                payload = await self.reader.readexactly(size)
                if first & 0xF == opcode:
                    return payload

    async def closed(self) -> int:
        code: int = struct.unpack("!H", (await self.until(8))[:2])[0]
        return code


@asynccontextmanager
async def raw(running: Running) -> AsyncIterator[Raw]:
    where = urlsplit(running.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /v1/realtime?model=voice HTTP/1.1\r\nHost: {where.netloc}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Authorization: Bearer {KEY}\r\n\r\n".encode()
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("opcode", "payload", "options", "code", "said"),
    [
        (1, b'{"type":"x"}', {"masked": False}, 1002, "protocol_error"),
        (3, b"", {}, 1002, "protocol_error"),
        (1, b"\xff\xfe", {}, 1007, "invalid_utf8"),
        (1, b"", {"length": 5000}, 1009, "message_too_big"),
    ],
    ids=["unmasked", "opcode", "utf8", "huge"],
)
async def test_a_frame_that_breaks_the_rules_closes_with_its_code_and_is_on_record(
    opcode: int, payload: bytes, options: dict[str, Any], code: int, said: str
) -> None:
    async with served() as (running, provider):
        async with raw(running) as client:
            client.frame(opcode, payload, **options)
            assert await client.closed() == code
        [line] = await rows(running, 1)
        assert (line["operation"], line["error"], line["ending"]) == ("realtime", said, "refused")
        assert (await provider.voice()).heard == []


async def test_a_message_as_large_as_the_bound_passes_in_pieces_too() -> None:
    async with served() as (running, provider):
        async with raw(running) as client:
            text = b'{"type":"input_audio_buffer.append","audio":"' + b"A" * (4096 - 47) + b'"}'
            assert len(text) == 4096
            client.writer.write(b"\x01\xfe" + struct.pack("!H", 4000) + b"\0\0\0\0" + text[:4000])
            client.frame(9, b"between")
            assert await client.until(10) == b"between"
            client.writer.write(b"\x80\xe0\0\0\0\0" + text[4000:])
            voice = await provider.voice()
            heard = await voice.until("input_audio_buffer.append")
        assert heard["audio"] == "A" * (4096 - 47)


async def test_bytes_pass_as_bytes() -> None:
    async with served() as (running, _), raw(running) as client:
        client.frame(2, b"\x00\xff" * 50)
        assert await client.until(2) == b"\x00\xff" * 50


async def test_whoever_says_nothing_is_closed_after_the_idle_time() -> None:
    async with served(idle=0.4) as (running, _):
        async with raw(running) as client:
            assert b'"idle_timeout"' in await client.until(1) or b'"idle_timeout"' in await client.until(1)
            assert await client.closed() == 4408
        [line] = await rows(running, 1)
        assert (line["error"], line["ending"]) == ("idle_timeout", "timed_out")


async def test_whoever_sends_no_pong_is_cut_and_one_that_does_is_not() -> None:
    async with served(ping=0.1, idle=30) as (running, _):
        async with raw(running) as client:
            for _ in range(4):
                client.frame(10, await client.until(9))
            with pytest.raises(asyncio.IncompleteReadError):
                await client.until(8)
        [line] = await rows(running, 1)
        assert (line["error"], line["ending"]) == ("no_pong", "client_gone")


async def shaken(running: Running, **headers: str) -> tuple[int, str]:
    """How a handshake is answered: status, and the code of the error."""
    usual = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode()}
    url = running.url + "/v1/realtime?" + headers.pop("query", "model=voice")
    sent = {name: value for name, value in {**usual, **key, **headers}.items() if value}
    async with aiohttp.ClientSession() as http, http.get(url, headers=sent) as response:
        told = {} if response.status == 101 else await response.json()
        return response.status, told["error"]["code"] if told else response.headers.get("Sec-WebSocket-Protocol", "")


async def test_a_handshake_is_refused_in_http_before_the_provider_hears_of_it() -> None:
    known = {"Authorization": f"Bearer {KEY}"}
    async with served(origins=["https://app.example"]) as (running, provider):
        assert await shaken(running) == (401, "missing_api_key")
        assert await shaken(running, **known, Origin="https://evil.example") == (403, "origin_not_allowed")
        assert await shaken(running, **known, Upgrade="", Connection="") == (426, "upgrade_required")
        assert await shaken(running, **known, **{"Sec-WebSocket-Key": "short"}) == (426, "upgrade_required")
        assert await shaken(running, **known, query="") == (400, "missing_model")
        assert await shaken(running, **known, query="model=voice&call_id=rtc_1") == (400, "call_id_unsupported")
        assert await shaken(running, **known, query="model=nobody") == (404, "model_not_found")
        assert provider.asked == []
        assert len(await rows(running, 7)) == 7


async def test_a_page_brings_its_key_in_a_subprotocol_and_the_key_goes_no_further() -> None:
    async with served(origins=["https://app.example"]) as (running, provider):
        offered = {"Sec-WebSocket-Protocol": f"realtime, openai-insecure-api-key.{KEY}"}
        assert await shaken(running, Origin="https://app.example", **offered) == (101, "realtime")
        voice = await provider.voice()
        assert voice.headers["Authorization"] == "Bearer sk-of-the-provider"
        assert KEY not in str(voice.headers)
        assert KEY.encode() not in running.log.data


async def test_a_client_that_is_lost_without_a_word_is_on_record_as_gone() -> None:
    async with served(max_message_bytes=2**20) as (running, provider):
        async with raw(running) as client:
            client.frame(1, b'{"type":"response.create"}')
            await (await provider.voice()).until("response.create")
            client.writer.transport.abort()
        lines = {line["operation"]: line for line in await rows(running, 2)}
        assert lines["realtime"]["ending"] == "client_gone"
        assert lines["realtime_response"]["output_tokens"] == 121
        voice = await provider.voice()
        async with asyncio.timeout(10):
            while voice.closed_with is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_versions_of_the_api_go_on_and_other_headers_of_a_client_do_not() -> None:
    async with served() as (running, provider):
        sent = {
            "Authorization": f"Bearer {KEY}",
            "OpenAI-Beta": "realtime=v1",
            "OpenAI-Organization": "org",
            "Cookie": "c=1",
        }
        assert (await shaken(running, **sent))[0] == 101
        headers = (await provider.voice()).headers
        assert headers["OpenAI-Beta"] == "realtime=v1"
        assert not {"openai-organization", "cookie"} & {name.lower() for name in headers}


async def test_a_session_that_only_writes_down_is_asked_for_by_its_intent() -> None:
    async with served() as (running, provider):
        known = {"Authorization": f"Bearer {KEY}"}
        assert (await shaken(running, **known, query="model=voice&intent=transcription"))[0] == 101
        assert (await provider.voice()).query == {"intent": "transcription"}
        assert await shaken(running, **known, query="model=voice&intent=other") == (400, "invalid_request")
