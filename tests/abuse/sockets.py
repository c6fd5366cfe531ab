"""Raw HTTP for abuse: bytes to a socket as they are, and what comes back, read by the rules and no more."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 10.0
"""Seconds after which a test stops waiting for an answer: longer than any bound under test."""


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """By lower-case name, in order."""
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Bytes as they are. A gateway that has hung up is seen when the answer is read."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            return

    async def answer(self, *, head: bool = False) -> Answer | None:
        """The next answer; `None` where the gateway closed without one. `head`: it has no body, whatever it says."""
        async with asyncio.timeout(PATIENCE):
            try:
                raw = await self.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            first, *lines = raw.decode("latin-1").split("\r\n")
            pairs = [line.partition(":") for line in lines if line]
            headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
            answer = Answer(int(first.split(" ")[1]), headers, b"")
            return answer if head or answer.status < 200 else Answer(answer.status, headers, await self._body(answer))

    async def _body(self, answer: Answer) -> bytes:
        if answer.header("transfer-encoding") == "chunked":
            return await self._chunks()
        if (length := answer.header("content-length")) is not None:
            return await self.reader.readexactly(int(length))
        return await self.reader.read()

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return body

    async def answers(self) -> list[Answer]:
        """Every answer until the gateway closes."""
        found: list[Answer] = []
        while (answer := await self.answer()) is not None:
            found.append(answer)
        return found

    async def closed(self) -> bool:
        """Whether the gateway closes without another byte."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    def reset(self) -> None:
        """RST."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def wire(url: str, *, receive_buffer: int | None = None) -> AsyncIterator[Wire]:
    """A connection to the gateway at `url`. A small `receive_buffer` makes a reader that stands still be felt soon."""
    parts = urlsplit(url)
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (parts.hostname, parts.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=2**16 if receive_buffer is None else 1024)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def request(
    path: str,
    body: bytes = b"",
    *,
    method: str = "POST",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    version: str = "1.1",
) -> bytes:
    """A request: host, JSON and length are filled in; a header of your own replaces the one filled in."""
    given = list(headers.items() if isinstance(headers, Mapping) else headers)
    named = {name.lower() for name, _ in given}
    filled = {"Host": "gateway", "Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"{name}: {value}" for name, value in filled.items() if name.lower() not in named]
    lines += [f"{name}: {value}" for name, value in given if value != DROPPED]
    return f"{method} {path} HTTP/{version}\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n" + body


DROPPED = "\0dropped"
"""As a header's value: do not fill it in."""


async def ask(url: str, data: bytes, *, head: bool = False) -> Answer:
    """Send bytes on a connection of their own, and give the answer."""
    async with wire(url) as connection:
        await connection.send(data)
        answer = await connection.answer(head=head)
        assert answer is not None, "the gateway closed without an answer"
        return answer
