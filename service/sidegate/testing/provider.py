"""A scripted provider: a real server on a real socket that does exactly what a test says, byte by byte."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec


class Exchange:
    """One request that reached the provider, and the socket it came on."""

    def __init__(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        writer: asyncio.StreamWriter,
        *,
        reused: bool = False,
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        """By lower-case name."""
        self.body = body
        self.reused = reused
        """Its connection has borne a request before."""
        self.arrived = asyncio.get_running_loop().time()
        """Loop time when the request had come."""
        self.closed = asyncio.Event()
        """Set when the other side has closed the connection."""
        self.closed_at: float | None = None
        """Loop time of that moment."""
        self._writer = writer

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    async def send(self, data: bytes) -> None:
        """Bytes, as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def head(self, status: int = 200, content_type: str = "text/event-stream", **headers: str) -> None:
        """A head without a length: the body ends when the connection does, or chunked if you say so yourself."""
        lines = [f"HTTP/1.1 {status} Scripted", f"Content-Type: {content_type}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def chunk(self, data: bytes) -> None:
        """One HTTP chunk, after a head with `Transfer_Encoding="chunked"`; an empty one is the end of the body."""
        await self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def reply(
        self, body: bytes, status: int = 200, content_type: str = "application/json", **headers: str
    ) -> None:
        """A whole reply with its length."""
        await self.head(status, content_type, Content_Length=str(len(body)), **headers)
        await self.send(body)

    async def stream(self, *events: bytes) -> None:
        """A whole stream of events, each in a write of its own, chunked and cleanly ended."""
        await self.head(Transfer_Encoding="chunked")
        for event in events:
            await self.chunk(event)
        await self.chunk(b"")

    def left(self) -> None:
        """Note that the other side has closed the connection."""
        if not self.closed.is_set():
            self.closed_at = asyncio.get_running_loop().time()
            self.closed.set()

    def reset(self) -> None:
        """RST; nothing where the connection is closed already."""
        if self._writer.is_closing():
            return
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        """FIN."""
        self._writer.close()


Script = Callable[[Exchange], Awaitable[None]]


class ScriptedProvider:
    """What was asked of it, and where it listens. Made by `scripted`."""

    def __init__(self, script: Script) -> None:
        self.script = script
        """Change it to answer the next request otherwise."""
        self.exchanges: list[Exchange] = []
        self.connections = 0
        self.errors: list[Exception] = []
        """What the script raised; the first is raised again where the provider is closed."""
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        # A task of our own: asyncio's reports one that is cancelled, on Python 3.11, as a failure of its callback.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            reused = False
            while (exchange := await _receive(reader, writer, reused)) is not None:
                reused = True
                self.exchanges.append(exchange)
                if not await self._answer(exchange, reader):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            writer.close()

    async def _answer(self, exchange: Exchange, reader: asyncio.StreamReader) -> bool:
        """Run the script, and watch for the other side to leave meanwhile. False where the connection is over."""
        playing = asyncio.ensure_future(self.script(exchange))
        watching = asyncio.ensure_future(_closed(reader))
        try:
            await asyncio.wait({playing, watching}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                exchange.left()
                with suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(5):
                        await playing
                return False
            playing.result()
            return not exchange._writer.is_closing()
        except ConnectionError:
            exchange.left()
            return False
        finally:
            for task in (playing, watching):
                task.cancel()
            await asyncio.gather(playing, watching, return_exceptions=True)

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def scripted(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedProvider]:
    """Serve `script` on a free port of 127.0.0.1; `provider.url` is its base URL, of https where `tls` is given."""
    provider = ScriptedProvider(script)
    server = await asyncio.start_server(provider.accept, "127.0.0.1", 0, limit=2**24, ssl=tls)
    scheme = "http" if tls is None else "https"
    provider.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.close()
        await provider.stop()
        await server.wait_closed()
    if provider.errors:
        raise provider.errors[0]


async def _receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reused: bool) -> Exchange | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Exchange(method, path, headers, body, writer, reused=reused)


async def _closed(reader: asyncio.StreamReader) -> None:
    """Returns when the peer has closed; a request sent meanwhile (pipelined) waits in the reader."""
    while not reader.at_eof() and reader.exception() is None:
        if reader._buffer:  # type: ignore[attr-defined]  # peeking, so as not to take the next request's bytes
            await asyncio.sleep(0.01)
            continue
        with suppress(ConnectionError):
            await reader._wait_for_data("peek")  # type: ignore[attr-defined]
