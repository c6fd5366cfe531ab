"""The chat socket and frames that no client should send: closed with the code for it, and each session is on record."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from tests.conversations.ground import PATH, connected, stage
from tests.jobs.ground import ANN, Scene
from tests.realtime.test_frames import Raw
from tests.relaying import until


@asynccontextmanager
async def raw(on: Scene) -> AsyncIterator[Raw]:
    where = urlsplit(on.running.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {PATH} HTTP/1.1\r\nHost: {where.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nAuthorization: Bearer {ANN}\r\n\r\n".encode()
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


async def test_websocket_unmasked_huge_bad_utf8_and_no_pong_are_closed_and_on_record() -> None:
    log = {"use": "log"}
    bounds = {"ping": 0.1, "pong": 0.3, "closing": 0.5, "max_message_bytes": 4096}
    async with stage(tells_nothing, log, sockets=bounds) as on:
        async with raw(on) as client:
            client.frame(1, b'{"type": "conversation.open"}', masked=False)
            assert await client.closed() == 1002
        async with raw(on) as client:
            client.frame(1, b"\xff\xfe")
            assert await client.closed() == 1007
        async with raw(on) as client:
            client.frame(1, b"x" * 5000)
            assert await client.closed() == 1009
        async with raw(on) as client:
            async with asyncio.timeout(20):
                # It is asked, says nothing, and the connection is cut.
                assert await client.until(9) is not None
                assert await client.reader.read() is not None
        async with connected(on) as client:
            await client.opened()
        await until(lambda: len(on.running.log.events("call")) == 5)
        calls = on.running.log.events("call")
        assert [call["operation"] for call in calls] == ["chat_socket"] * 5
        assert sorted(call["ending"] for call in calls) == ["client_gone", "complete", *["refused"] * 3]


async def tells_nothing(exchange: object) -> None:
    """No provider is asked."""


@pytest.mark.parametrize("said", [b"GET /v1/chat/ws HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_what_is_no_handshake_is_told_so(said: bytes) -> None:
    async with stage(tells_nothing) as on:
        where = urlsplit(on.running.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(said.replace(b"\r\n\r\n", f"\r\nAuthorization: Bearer {ANN}\r\n\r\n".encode()))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 426 ")
        assert b"Upgrade: websocket" in head
        writer.close()
