"""Raw ends of connections: a server that says bytes as they are, and a connection whose socket is a list."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

from sidegate.upstream.connection import Connection
from sidegate.upstream.destination import Origin
from sidegate.upstream.transport import Transport

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def told(length: int) -> bytes:
    return OK + b"Content-Length: %d\r\n\r\n" % length


class RawServer:
    """Says to each request what its script has for it. `ends`: by FIN, by RST, or it stays open."""

    def __init__(self, scripts: Sequence[Sequence[bytes]], ends: str) -> None:
        self.url = ""
        self.connections = 0
        self.requests: list[bytes] = []
        self.closed = asyncio.Event()
        """The other side has closed a connection."""
        self._scripts = list(scripts)
        self._ends = ends

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self._scripts:
                head = await reader.readuntil(b"\r\n\r\n")
                _, _, length = head.partition(b"Content-Length: ")
                self.requests.append(head + await reader.readexactly(int(length.split(b"\r\n")[0] or b"0")))
                for piece in self._scripts.pop(0):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
            if self._ends == "reset":
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            elif self._ends == "stays":
                await reader.read(1)
            else:
                writer.close()
                await writer.wait_closed()
        finally:
            self.closed.set()


@asynccontextmanager
async def serving(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Serve on a free port; gives `127.0.0.1:port`. Every connection is over at the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await handler(reader, writer)
        finally:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(run(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1024)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@asynccontextmanager
async def saying(*scripts: Sequence[bytes], ends: str = "stays") -> AsyncIterator[RawServer]:
    """Serve on a free port; each script is for one request, in the order they come, on whatever connection."""
    raw = RawServer(scripts, ends)
    async with serving(raw.serve) as address:
        raw.url = f"http://{address}/"
        yield raw


@asynccontextmanager
async def transport(reconnected: Callable[[], None] = lambda: None) -> AsyncIterator[Transport]:
    made = Transport(reconnected)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


class Wire(asyncio.Transport):
    """The transport of a connection that is fed by hand."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self.written = b""
        self.closed = False
        self.reading = True

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Keeper:
    """Notes what is given back."""

    def __init__(self) -> None:
        self.given: list[Connection] = []

    def made(self, connection: Connection) -> None: ...

    def give(self, connection: Connection) -> None:
        self.given.append(connection)

    def lost(self, connection: Connection) -> None: ...


class Fed:
    """A connection with a request on its way, and what becomes of it."""

    def __init__(self, sock: socket.socket) -> None:
        self.keeper = Keeper()
        self.wire = Wire(sock)
        self.connection = Connection(Origin(False, "h", 80), self.keeper, asyncio.get_running_loop())
        self.connection.connection_made(self.wire)

    def feed(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            if self.wire.closed:
                return
            self.connection.data_received(piece)

    def end(self) -> None:
        """The end of the socket."""
        self.connection.connection_lost(None)

    async def exchange(self, pieces: Sequence[bytes], *, ends: bool) -> tuple[int, bytes]:
        """What the reader of one request gets, where these bytes come."""

        async def read() -> tuple[int, bytes]:
            response = await self.connection.ask(b"GET / HTTP/1.1\r\n\r\n", b"")
            return response.status, await response.read()

        reading = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        self.feed(pieces)
        if ends:
            self.end()
        async with asyncio.timeout(5):
            return await reading


@asynccontextmanager
async def fed() -> AsyncIterator[Fed]:
    with closing(socket.socket()) as sock:
        yield Fed(sock)
