"""A TCP proxy between the gateway and a store, that breaks what it is told to break, and heals, while it runs."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit


@dataclass
class Strike:
    """What is to be done once: to the message with these bytes, after so many others like it, or to its answer."""

    containing: bytes
    left: int
    answer: bool
    """The message comes through whole, and its answer is lost; else it is cut where these bytes begin."""
    struck: asyncio.Event


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: FaultProxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        self.losing: Strike | None = None
        """The next thing the server says on this connection is not told."""

    async def up(self, reader: asyncio.StreamReader) -> None:
        """From the gateway to the store, until the gateway hangs up. Raises `ConnectionError` where it is to be cut."""
        while data := await reader.read(2**16):
            await self.proxy.hindered(self.proxy.delays[0])
            strike = self.proxy.strikes(data)
            if strike is not None and not strike.answer:
                self.server.write(data[: data.index(strike.containing)])
                await self.server.drain()
                strike.struck.set()
                raise ConnectionResetError
            self.losing = self.losing or strike
            self.server.write(data)
            await self.server.drain()
        await self.proxy.hindered(0)
        self.server.write_eof()

    async def down(self, reader: asyncio.StreamReader) -> None:
        """From the store to the gateway, until the store hangs up. Raises `ConnectionError` where it is to be cut."""
        while data := await reader.read(2**16):
            await self.proxy.hindered(self.proxy.delays[1])
            if self.losing is not None:
                self.losing.struck.set()
                raise ConnectionResetError
            told = self.proxy.told(len(data))
            self.client.write(data[:told])
            await self.client.drain()
            if told < len(data):
                raise ConnectionResetError
        await self.proxy.hindered(0)
        self.client.write_eof()

    def reset(self) -> None:
        """RST to the gateway; the store sees its client go."""
        for writer in (self.client, self.server):
            if not writer.is_closing():
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class FaultProxy:
    """Stands before one server. It lets all pass until it is told otherwise; made by `fault_proxy`.

    `refuse`, `black_hole` and `delay` last until `heal`; `reset`, `cut_message`, `cut_reply` and `lose_answer` strike
    once.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self.port = 0
        self.connections = 0
        """How many have come so far."""
        self.delays = (0.0, 0.0)
        """Seconds by which each piece is late: to the store, from the store."""
        self._open = asyncio.Event()
        self._open.set()
        self._strikes: list[Strike] = []
        self._budget: tuple[int, asyncio.Event] | None = None
        self._server: asyncio.Server | None = None
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The server's URL, through the proxy."""
        user, at, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{user}{at}127.0.0.1:{self.port}"))

    async def refuse(self) -> None:
        """Nobody listens any more, and what was connected is reset."""
        await self._unlisten()
        self.reset()

    def black_hole(self) -> None:
        """Connections are accepted, and nothing is said, on old ones either; after `heal` all that waited comes."""
        self._open.clear()

    def delay(self, up: float = 0.0, down: float = 0.0) -> None:
        """Each piece is late by so many seconds."""
        self.delays = (up, down)

    def reset(self) -> None:
        """RST on every connection there is; new ones are let in."""
        for link in tuple(self._links):
            link.reset()

    def cut_reply(self, after: int) -> asyncio.Event:
        """The store may say so many more bytes; then, amid a reply, its connection is reset. Set when that is done."""
        struck = asyncio.Event()
        self._budget = (after, struck)
        return struck

    def lose_answer(self, containing: bytes = b"", skip: int = 0) -> asyncio.Event:
        """The store gets the message with these bytes, and does what it says; its answer is lost and the connection
        reset. `skip` lets so many such messages pass before. Set when the store has answered.
        """
        return self._strike(Strike(containing, skip, True, asyncio.Event()))

    def cut_message(self, containing: bytes = b"", skip: int = 0) -> asyncio.Event:
        """The store gets what comes before these bytes, then both get a reset. Set when that is done."""
        return self._strike(Strike(containing, skip, False, asyncio.Event()))

    def _strike(self, strike: Strike) -> asyncio.Event:
        self._strikes.append(strike)
        return strike.struck

    async def heal(self) -> None:
        """All passes again, and is listened to."""
        self.delays = (0.0, 0.0)
        self._strikes.clear()
        self._budget = None
        self._open.set()
        await self._listen()

    async def hindered(self, delay: float) -> None:
        if delay:
            await asyncio.sleep(delay)
        await self._open.wait()

    def strikes(self, data: bytes) -> Strike | None:
        """What is to be done to this message, if anything is."""
        for strike in self._strikes:
            if strike.containing in data:
                strike.left -= 1
                if strike.left < 0:
                    self._strikes.remove(strike)
                    return strike
        return None

    def told(self, size: int) -> int:
        """How many of these bytes of the store are told."""
        if self._budget is None:
            return size
        left, struck = self._budget
        if size <= left:
            self._budget = (left - size, struck)
            return size
        self._budget = None
        struck.set()
        return left

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _unlisten(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._open.wait()
            there, server = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        link = Link(self, writer, server)
        self._links.add(link)
        pumps = {asyncio.ensure_future(link.up(reader)), asyncio.ensure_future(link.down(there))}
        try:
            # Where one side hangs up the other may still have something to say; a cut is the end of both.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._links.discard(link)
            # Before anything is awaited: this task may be cancelled once more, and both sides must be closed.
            link.reset()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def stop(self) -> None:
        await self._unlisten()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def fault_proxy(url: str) -> AsyncIterator[FaultProxy]:
    """A proxy before the server of this URL, on a free port."""
    proxy = FaultProxy(url)
    await proxy._listen()
    try:
        yield proxy
    finally:
        with suppress(OSError):
            await proxy.stop()
