"""What a hit of the cache costs this process, CPU of the client included: `python -m bench.hits`."""

from __future__ import annotations

import asyncio
from time import process_time
from typing import Any

import aiohttp

from sidegate.testing import gateway

CALLS, ROUNDS = 200, 5
QUESTION = [{"role": "user", "content": "Tell me of the sea."}]


def config() -> dict[str, Any]:
    return {
        "providers": {"demo": {"dialect": "demo", "settings": {"tokens_per_second": 0, "first_token": 0}}},
        "models": {"demo": {"provider": "demo"}},
        "pipelines": {"asked": {}, "kept": {"plugins": [{"use": "cache"}]}},
        "routes": [{"name": name, "pipeline": name, "prefix": f"/{name}"} for name in ("asked", "kept")],
    }


async def main() -> None:
    async with gateway(config()) as running, aiohttp.ClientSession() as http:
        for stream in (False, True):
            took = [await cost(http, f"{running.url}/{name}/v1/chat/completions", stream) for name in ("asked", "kept")]
            print(f"stream: {stream}; asked {took[0]:.0f} µs, from memory {took[1]:.0f} µs a call")


async def cost(http: aiohttp.ClientSession, url: str, stream: bool) -> float:
    """CPU microseconds of one call, in the best round."""

    async def ask() -> None:
        body = {"model": "demo", "messages": QUESTION, "stream": stream, "max_tokens": 200}
        async with http.post(url, json=body) as reply:
            await reply.read()

    best = float("inf")
    for _ in range(ROUNDS):
        began = process_time()
        for _ in range(CALLS):
            await ask()
        best = min(best, (process_time() - began) / CALLS)
    return best * 1e6


if __name__ == "__main__":
    asyncio.run(main())
