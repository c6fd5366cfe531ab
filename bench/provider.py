"""The mock provider: a lean server that answers as OpenAI does, at the pace the model's name asks for.

`python -m bench.provider PORT`. It parses no more than it needs and prepares every reply once, so that it costs a
fraction of what stands before it. `GET /cut` says how many streams were cut by the other side, and when the last was.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from functools import lru_cache
from typing import cast

from bench.loop import loop_factory
from bench.traffic import Asked, Shape, read_request, reply_body, sent_at, stream_events

BURST = 8
"""Events to a write, flat out: each in an HTTP chunk of its own."""

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
    b"openai-version: 2020-10-01\r\nx-request-id: req_bench\r\n\r\n"
)


class Cuts:
    """Streams that the other side did not let end, and the monotonic time of the last."""

    count = 0
    last = 0.0


class Provider(asyncio.Protocol):
    """One connection: one request at a time, kept open."""

    def __init__(self, cuts: Cuts) -> None:
        self._cuts = cuts
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._pieces: list[bytes] = []
        self._next = 0
        self._begun = 0.0
        self._interval = 0.0
        self._timed = False
        self._timer: asyncio.Handle | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio and uvloop set TCP_NODELAY themselves.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._pieces:
            self._cuts.count += 1
            self._cuts.last = time.monotonic()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._pieces and self._timer is None:
            self._flow()

    def data_received(self, data: bytes) -> None:
        self._rest += data
        at = self._rest.find(b"\r\n\r\n") + 4
        if at < 4:
            return
        found = _LENGTH.search(self._rest, 0, at)
        end = at + (int(found[1]) if found else 0)
        if len(self._rest) < end:
            return
        head, body, self._rest = self._rest[:at], self._rest[at:end], self._rest[end:]
        self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET /cut "):
            self._transport.write(_whole(b"%d %.9f" % (self._cuts.count, self._cuts.last), 200))
            return
        asked = read_request(body)
        if asked is None:
            self._transport.write(_whole(b'{"error":{"message":"The model is not one of the mock\'s."}}', 404))
            return
        if not asked.stream:
            self._transport.write(_reply(asked.shape))
            return
        self._pieces, self._next = self._pieces_of(asked), 1
        self._interval = asked.shape.interval / 1000
        self._timed = asked.shape.timed
        self._transport.write(self._pieces[0])
        self._begun = self._loop.time()
        self._timer = self._loop.call_soon(self._flow)

    def _pieces_of(self, asked: Asked) -> list[bytes]:
        return _stream(asked)

    def _flow(self) -> None:
        """Send the next piece, and come again: at once, or when the one after it is due."""
        self._timer = None
        if self._paused or self._transport.is_closing():
            return
        piece = self._pieces[self._next]
        self._next += 1
        if self._next == len(self._pieces):
            self._pieces = []
        self._transport.write(sent_at(piece, time.monotonic()) if self._timed else piece)
        if not self._pieces:
            return
        if not self._interval:
            self._timer = self._loop.call_soon(self._flow)
            return
        # By the clock, so that the pace does not depend on how busy the machine is.
        self._timer = self._loop.call_at(self._begun + (self._next - 1) * self._interval, self._flow)


@lru_cache(64)
def _reply(shape: Shape) -> bytes:
    return _whole(reply_body(shape), 200)


def _whole(body: bytes, status: int) -> bytes:
    return b"HTTP/1.1 %d Mock\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


@lru_cache(64)
def _stream(asked: Asked) -> list[bytes]:
    """What each write holds: the head and the role, then a token each, or bursts; the end comes with the last."""
    role, *events = [b"%x\r\n%b\r\n" % (len(event), event) for event in stream_events(asked)]
    tokens, ending = events[: asked.shape.tokens], events[asked.shape.tokens :]
    size = 1 if asked.shape.interval else BURST
    pieces = [b"".join(tokens[at : at + size]) for at in range(0, len(tokens), size)]
    return [_STREAM_HEAD + role, *pieces, b"".join(ending) + b"0\r\n\r\n"]


async def serve(port: int) -> None:
    """Serve on loopback until the process is ended."""
    cuts = Cuts()
    server = await asyncio.get_running_loop().create_server(lambda: Provider(cuts), "127.0.0.1", port, backlog=2048)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(int(sys.argv[1])))
