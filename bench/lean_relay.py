"""The bare relay with the gateway's own transport in the place of aiohttp's `ClientSession`, and nothing else changed.

`python -m bench.lean_relay PORT PROVIDER_URL`. What is left between it and the gateway is the gateway's own work.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

from bench.loop import loop_factory
from bench.relay import KEPT, serve
from sidegate.upstream.transport import Transport


class Lean:
    """Passes a request on, and what comes back: bytes as they arrive."""

    def __init__(self, base: str, transport: Transport) -> None:
        self._base = base
        self._transport = transport

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name: request.headers[name] for name in KEPT if name in request.headers}
        async with self._transport.post(self._base + request.path, headers, body, connect_timeout=10) as upstream:
            kind = upstream.headers["Content-Type"]
            if not kind.startswith("text/event-stream"):
                return web.Response(status=upstream.status, body=await upstream.read(), headers={"Content-Type": kind})
            response = web.StreamResponse(status=upstream.status, headers={"Content-Type": kind})
            await response.prepare(request)
            while piece := await upstream.piece():
                await response.write(piece)
            await response.write_eof()
            return response


async def relayed(port: int, base: str) -> None:
    """Serve until the process is ended."""
    transport = Transport()
    await transport.start()
    await serve(port, Lean(base, transport).answer)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as loop:
        loop.run(relayed(int(sys.argv[1]), sys.argv[2]))
