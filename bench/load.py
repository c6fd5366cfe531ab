"""The load generator: raw HTTP/1.1 on kept connections. Every reply is checked to be whole; one that is not ends a run.

A connection only gathers bytes and looks for the end; what they say is read once, when the reply is over. So it costs a
few microseconds a read, and the machine's other core is not its own bottleneck.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from bench.replies import TOKEN, Incomplete, check_body, check_stream, unchunked
from bench.traffic import PATH, SENT, Shape, request_body

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection:\s*close", re.IGNORECASE)
_LAST = b"\r\n0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Line:
    """Where to send, and as whom."""

    port: int
    key: str = ""

    def request(self, shape: Shape, *, stream: bool) -> bytes:
        return self.post(request_body(shape, stream=stream))

    def post(self, body: bytes) -> bytes:
        """A request with that body."""
        return (
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Bearer {self.key or 'none'}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body


@dataclass(slots=True)
class Load:
    """What a run saw."""

    calls: int = 0
    tokens: int = 0
    bytes: int = 0
    seconds: float = 0.0
    first: list[float] = field(default_factory=list)
    """Seconds to the first token, of each stream."""


class Connection(asyncio.Protocol):
    """One connection to a server, one call at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._got = bytearray()
        self._body = 0
        self._length = -1
        self._chunked = False
        self._over: asyncio.Future[None] | None = None
        self._spoke: asyncio.Future[None] | None = None
        self.first = 0.0
        """When the first token came, `time.monotonic`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._over is None or self._over.done():
            return
        if self._body and self._length < 0 and not self._chunked:
            self._over.set_result(None)
        else:
            self._over.set_exception(Incomplete(f"the connection was closed after {len(self._got)} bytes"))
            # Known now: a stream that is only watched is awaited by nobody.
            self._over.exception()

    def data_received(self, data: bytes) -> None:
        got = self._got
        got += data
        if not self._body:
            self._read_head()
        if not self.first and TOKEN.search(got):
            self.first = time.monotonic()
            if self._spoke is not None and not self._spoke.done():
                self._spoke.set_result(None)
        if self._ended() and self._over is not None and not self._over.done():
            self._over.set_result(None)

    def _read_head(self) -> None:
        at = self._got.find(b"\r\n\r\n") + 4
        if at < 4:
            return
        self._body = at
        self._chunked = _CHUNKED.search(self._got, 0, at) is not None
        found = _LENGTH.search(self._got, 0, at)
        self._length = int(found[1]) if found else -1

    def _ended(self) -> bool:
        if not self._body:
            return False
        if self._chunked:
            return self._got.endswith(_LAST)
        return 0 <= self._length <= len(self._got) - self._body

    async def send(self, port: int, request: bytes) -> None:
        """Send a request; connects where there is no connection."""
        if self._transport is None or self._transport.is_closing():
            await self._loop.create_connection(lambda: self, "127.0.0.1", port)
        assert self._transport is not None
        self._got = bytearray()
        self._body, self._length, self._chunked, self.first = 0, -1, False, 0.0
        self._over, self._spoke = self._loop.create_future(), self._loop.create_future()
        self._transport.write(request)

    async def spoken(self) -> None:
        """Returns when the first token has come."""
        assert self._over is not None
        assert self._spoke is not None
        await asyncio.wait((self._over, self._spoke), return_when=asyncio.FIRST_COMPLETED)
        if not self._spoke.done():
            raise self._bad("ended without a token")

    async def reply(self) -> bytes:
        """The body of a whole reply with status 200."""
        assert self._over is not None
        await self._over
        status = _STATUS.match(self._got)
        if status is None or status[1] != b"200":
            raise self._bad("is no 200")
        body = bytes(self._got[self._body :])
        if self._transport is not None and _CLOSES.search(self._got, 0, self._body):
            self.close()
        return unchunked(body) if self._chunked else body

    def tokens(self) -> int:
        """How many have come of the reply that is under way."""
        return len(TOKEN.findall(self._got))

    def close(self) -> None:
        """Leave, also in the middle of a reply."""
        if self._over is not None:
            self._over.cancel()
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _bad(self, what: str) -> Incomplete:
        return Incomplete(f"a reply {what}: {bytes(self._got[:500])!r}")


class Timed(Connection):
    """A stream whose tokens say when they were sent: keeps how long each was on its way, and not what came."""

    def __init__(self) -> None:
        super().__init__()
        self.took: list[float] = []
        """Seconds, of each token since `restart`."""

    def restart(self) -> None:
        self.took = []

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self.took += [now - float(sent) for sent in SENT.findall(data)]
        super().data_received(data if not self.first else b"")


async def run(line: Line, shape: Shape, *, stream: bool, count: int, at_once: int, spread: float = 0.0) -> Load:
    """`count` calls, `at_once` at a time; their starts spread over so many seconds."""
    load = Load()
    left = iter(range(count))
    request = line.request(shape, stream=stream)
    check = check_stream if stream else check_body

    async def work(number: int) -> None:
        connection = Connection()
        await asyncio.sleep(spread * number / at_once)
        for _ in left:
            sent = time.monotonic()
            await connection.send(line.port, request)
            body = await connection.reply()
            check(body, shape)
            load.calls += 1
            load.bytes += len(body)
            load.tokens += shape.tokens
            if stream:
                load.first.append(connection.first - sent)
        connection.close()

    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(at_once):
            group.create_task(work(number))
    load.seconds = time.monotonic() - begun
    return load


async def open_streams(line: Line, shape: Shape, count: int) -> list[Connection]:
    """That many streams, each with its first token come."""
    opened = [Connection() for _ in range(count)]
    await speak(line, shape, opened)
    return opened


async def open_timed(line: Line, shape: Shape, count: int) -> list[Timed]:
    """The same of a timed shape."""
    opened = [Timed() for _ in range(count)]
    await speak(line, shape, opened)
    return opened


async def speak(line: Line, shape: Shape, connections: Sequence[Connection], *, at_once: int = 50) -> None:
    """Begin a stream on each; not more than `at_once` are waiting for their first token at a time. All are closed again
    where one does not begin."""
    request = line.request(shape, stream=True)
    try:
        for at in range(0, len(connections), at_once):
            some = connections[at : at + at_once]
            await asyncio.gather(*(connection.send(line.port, request) for connection in some))
            await asyncio.gather(*(connection.spoken() for connection in some))
    except BaseException:
        for connection in connections:
            connection.close()
        raise
