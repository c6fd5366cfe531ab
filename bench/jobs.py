"""How soon a job is accepted, how many a second are accepted and run, what waiting for one costs, and how soon a stream
that was cut goes on.

`python -m bench.jobs [URL of a ledger] [--redis URL]`, from the root of the repository; SQLite in a folder of its own
if none is given, and a PostgreSQL database must be empty. With a Redis, cut streams also go on at a second gateway. The
gateway is a process of its own; its provider is the demo, flat out, so what is measured is the way of a job. `--quick`
shows that it runs; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp
import msgspec

PATH = "/v1/chat/completions"
CONNECTIONS = 16


def config(state: Path, ledger: str, store: str) -> dict[str, Any]:
    """Routes by prefix: streams that are kept for a while, and those that are jobs."""
    resumable = {"pipeline": "main", "resumable": True}
    return {
        "counters": {"url": store},
        "routes": [
            {"name": "main", "pipeline": "main"},
            {"name": "kept", "prefix": "/kept", **resumable},
            {"name": "job", "prefix": "/job", "on_disconnect": "continue", **resumable},
        ],
        "listen": {"port": 0},
        "admin": None,
        "state": str(state),
        "ledger": {"url": ledger},
        "jobs": {"concurrency": 64, "max_queued": 100_000},
        "providers": {"demo": {"dialect": "demo", "settings": {"tokens_per_second": 0, "first_token": 0}}},
        "models": {"demo": {"provider": "demo"}},
        "pipelines": {"main": {"plugins": []}},
    }


def body(stream: bool) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}


@asynccontextmanager
async def serving(ledger: str | None, store: str = "") -> AsyncIterator[str]:
    """A gateway's URL."""
    with tempfile.TemporaryDirectory(prefix="sidegate-bench-") as folder:
        file = Path(folder) / "config.json"
        url = ledger or f"sqlite:///{folder}/ledger.db"
        file.write_bytes(msgspec.json.encode(config(Path(folder), url, store)))
        command = [sys.executable, "-m", "sidegate"]
        await asyncio.to_thread(subprocess.run, [*command, "migrate", str(file)], check=True, capture_output=True)
        process = await asyncio.create_subprocess_exec(
            *command, "serve", str(file), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr is not None
        line = ""
        while "is ready" not in line:
            line = (await process.stderr.readline()).decode()
            assert line, "the gateway did not start"
        try:
            yield next(word for word in line.split() if word.startswith("http"))
        finally:
            process.terminate()
            await process.communicate()


async def post(client: aiohttp.ClientSession, prefer: str, stream: bool) -> tuple[float, str]:
    """Seconds, and where the job is."""
    began = perf_counter()
    async with client.post(PATH, json=body(stream), headers={"Prefer": prefer} if prefer else {}) as reply:
        await reply.read()
        assert reply.status in (200, 202), reply.status
        return perf_counter() - began, reply.headers.get("Location", "")


async def in_turn(client: aiohttp.ClientSession, count: int, prefer: str) -> list[float]:
    return [(await post(client, prefer, stream=False))[0] for _ in range(count)]


async def burst(client: aiohttp.ClientSession, count: int, stream: bool) -> tuple[float, float]:
    """Jobs a second, accepted, and accepted and run."""
    left = iter(range(count))
    places: list[str] = []

    async def submit() -> None:
        for _ in left:
            places.append((await post(client, "respond-async", stream))[1])

    began = perf_counter()
    await asyncio.gather(*(submit() for _ in range(CONNECTIONS)))
    accepted = perf_counter()
    while True:
        async with (
            client.get("/v1/jobs?state=queued&limit=1") as queued,
            client.get("/v1/jobs?state=running&limit=1") as running,
        ):
            if not (await queued.json())["data"] and not (await running.json())["data"]:
                break
        await asyncio.sleep(0.02)
    return count / (accepted - began), count / (perf_counter() - began)


async def resumed(client: aiohttp.ClientSession, count: int, prefix: str, elsewhere: str = "") -> list[float]:
    """Seconds from coming back to the next event, of streams that were cut after their first one."""
    found = []
    for _ in range(count):
        async with client.post(prefix + PATH, json=body(stream=True)) as reply:
            where = elsewhere + reply.headers["Content-Location"]
            id = (await reply.content.readuntil(b"\n")).removeprefix(b"id: ").strip().decode()
            reply.close()
        if elsewhere:
            await asyncio.sleep(0.1)  # copied by now
        began = perf_counter()
        async with client.get(where, headers={"Last-Event-ID": id}) as reply:
            assert reply.status == 200, await reply.text()
            while b"data" not in await reply.content.readline():
                pass
            found.append(perf_counter() - began)
    return found


def said(name: str, seconds: list[float]) -> str:
    ordered = sorted(seconds)
    worst = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"{name:44} median {statistics.median(ordered) * 1000:6.2f} ms   p99 {worst * 1000:6.2f} ms"


async def measure(ledger: str | None, store: str, count: int) -> list[str]:
    async with serving(ledger, store) as url, aiohttp.ClientSession(url) as client:
        await in_turn(client, min(count, 50), "respond-async")
        lines = [
            said("accepted, one after the other", await in_turn(client, count, "respond-async")),
            said("run while the client waits (wait=10)", await in_turn(client, count, "respond-async, wait=10")),
            said("the same call, no job", await in_turn(client, count, "")),
        ]
        for name, prefix in (("a cut stream goes on, from memory", "/kept"), ("the same, as a job", "/job")):
            lines.append(said(name, await resumed(client, count, prefix)))
        if store:
            async with serving(None, store) as other:
                lines.append(
                    said("the same, at another gateway, by Redis", await resumed(client, count, "/kept", other))
                )
        for stream in (False, True):
            accepted, run = await burst(client, count, stream)
            kind = "streams of 50 tokens" if stream else "whole replies"
            lines.append(f"{f'a burst of {count} {kind}':44} {accepted:6.0f}/s accepted   {run:6.0f}/s run")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ledger", nargs="?", default=None)
    parser.add_argument("--redis", default="")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    print(f"CPUs: {os.cpu_count()}")
    for line in asyncio.run(measure(asked.ledger, asked.redis, 20 if asked.quick else 300)):
        print(line)


if __name__ == "__main__":
    main()
