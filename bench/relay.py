"""The bare relay: what anybody writes with aiohttp in an afternoon. No plugins, no checks, no record of anything.

`python -m bench.relay PORT PROVIDER_URL`. Its settings are decent ones, so that the comparison is fair: a pool without
a bound, no total timeout, no cookies, nothing inflated, no access log, uvloop where it is installed, and a client that
leaves ends the provider's stream.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import web

from bench.loop import loop_factory

KEPT = ("Content-Type", "Authorization", "Accept")
MOST_BYTES = 16 * 2**20


class Relay:
    """Passes a request on, and what comes back: bytes as they arrive."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self._base = base
        self._session = session

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name: request.headers[name] for name in KEPT if name in request.headers}
        async with self._session.post(self._base + request.path, data=body, headers=headers) as upstream:
            if upstream.content_type != "text/event-stream":
                return web.Response(
                    status=upstream.status, body=await upstream.read(), content_type=upstream.content_type
                )
            response = web.StreamResponse(
                status=upstream.status, headers={"Content-Type": upstream.headers["Content-Type"]}
            )
            await response.prepare(request)
            async for piece in upstream.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response


async def relayed(port: int, base: str) -> None:
    """Serve by aiohttp's client until the process is ended."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )
    async with session:
        await serve(port, Relay(base, session).answer)


async def serve(port: int, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
    """On loopback."""
    app = web.Application(client_max_size=MOST_BYTES)
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, keepalive_timeout=600)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as loop:
        loop.run(relayed(int(sys.argv[1]), sys.argv[2]))
