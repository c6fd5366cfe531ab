"""Calls in lock-step: the provider sends its next piece when the client has all of the one before.

So the server between them does the same work in every run, in pieces of the same size, however slow it is meanwhile.
One call at a time; client and provider share a process, the server under test is another.
"""

from __future__ import annotations

import asyncio
import re
from types import TracebackType
from typing import Self, cast

from bench.load import Line
from bench.provider import Cuts, Provider
from bench.replies import Incomplete, check_body, check_stream, unchunked
from bench.traffic import BUFFERED, Asked, Shape

SECONDS = 60.0
"""The longest that one step may take. A server under an instrument is slow."""

_EVENT = re.compile(rb"^data:", re.MULTILINE)
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


class _Stepped(Provider):
    """The mock provider, but each piece of a stream waits until it is asked for."""

    def __init__(self, script: Script) -> None:
        super().__init__(Cuts())
        self._script = script

    def _pieces_of(self, asked: Asked) -> list[bytes]:
        """The first token with the head: a server may keep the head back until there is one."""
        head, first, *rest = super()._pieces_of(asked)
        return [head + first, *rest]

    def _flow(self) -> None:
        self._timer = None
        self._script.streaming.set_result(self)

    @property
    def left(self) -> int:
        return len(self._pieces) - self._next if self._pieces else 0

    def step(self) -> bytes:
        """Send the next piece, and give it back."""
        piece = self._pieces[self._next]
        self._next += 1
        if self._next == len(self._pieces):
            self._pieces = []
        self._transport.write(piece)
        return piece

    def opening(self) -> bytes:
        return self._pieces[0]


class _Client(asyncio.Protocol):
    """One kept connection to the server under test: gathers bytes, and says when there are enough."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.got = bytearray()
        self._from = 0
        self._enough: asyncio.Future[None] | None = None
        self._events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if self._enough is not None and not self._enough.done():
            self._enough.set_exception(Incomplete(f"the connection was closed after {len(self.got)} bytes"))

    def data_received(self, data: bytes) -> None:
        self.got += data
        self._look()

    def send(self, request: bytes) -> None:
        assert self.transport is not None
        self.got.clear()
        self._from = 0
        self.transport.write(request)

    async def events(self, count: int) -> None:
        """Wait for that many more whole events; 0 is the end of the reply."""
        self._events, self._enough = count, asyncio.get_running_loop().create_future()
        self._look()
        async with asyncio.timeout(SECONDS):
            await self._enough

    def _look(self) -> None:
        if self._enough is None or self._enough.done() or not self._arrived():
            return
        self._from = len(self.got)
        self._enough.set_result(None)

    def _arrived(self) -> bool:
        if not self._events:
            return self._whole()
        if not self.got.endswith(b"\n\n\r\n"):
            return False
        return len(_EVENT.findall(self.got, self._from)) >= self._events

    def _whole(self) -> bool:
        at = self.got.find(b"\r\n\r\n") + 4
        found = _LENGTH.search(self.got, 0, at) if at > 3 else None
        if found is None:
            return self.got.endswith(b"\r\n0\r\n\r\n")
        return len(self.got) - at >= int(found[1])


class Script:
    """The calls, to a server that asks the provider of this script."""

    def __init__(self) -> None:
        self.streaming: asyncio.Future[_Stepped] = asyncio.get_running_loop().create_future()
        self._server: asyncio.Server | None = None
        self._client = _Client()
        self.line = Line(0)
        """The server that is called."""

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Stepped(self), "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        if self._client.transport is not None:
            self._client.transport.abort()

    @property
    def provider(self) -> str:
        """The URL of the provider."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def connect(self, line: Line) -> None:
        """Use that server from now on."""
        self.line = line
        await asyncio.get_running_loop().create_connection(lambda: self._client, "127.0.0.1", line.port)

    async def buffered(self) -> None:
        """A call with a whole reply of 1 KB."""
        await self.ask(self.line.request(BUFFERED, stream=False), BUFFERED)

    async def ask(self, request: bytes, shape: Shape) -> None:
        """A call with that request and a whole reply."""
        self._client.send(request)
        await self._client.events(0)
        check_body(self._body(), shape)

    async def begin(self, shape: Shape) -> _Stepped:
        """A stream, as far as its first piece."""
        self.streaming = asyncio.get_running_loop().create_future()
        self._client.send(self.line.request(shape, stream=True))
        async with asyncio.timeout(SECONDS):
            stream = await self.streaming
        await self._client.events(len(_EVENT.findall(stream.opening())))
        return stream

    async def step(self, stream: _Stepped, pieces: int) -> None:
        """That many pieces of it, each once the one before has arrived."""
        for _ in range(pieces):
            piece = stream.step()
            await self._client.events(len(_EVENT.findall(piece)))

    async def end(self, stream: _Stepped, shape: Shape) -> None:
        """What is left of it."""
        await self.step(stream, stream.left - 1)
        stream.step()
        await self._client.events(0)
        check_stream(self._body(), shape)

    async def streamed(self, shape: Shape) -> None:
        """A whole stream."""
        await self.end(await self.begin(shape), shape)

    def _body(self) -> bytes:
        head, _, body = bytes(self._client.got).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise Incomplete(f"a reply is no 200: {head[:300]!r}")
        return unchunked(body) if b"chunked" in head.lower() else body
