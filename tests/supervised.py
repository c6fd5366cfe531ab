"""`sidegate serve` with several workers, as a real supervisor and its processes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec


class Supervised:
    """A supervisor that has said that its workers are ready."""

    def __init__(self, process: asyncio.subprocess.Process, said: list[str], folder: Path) -> None:
        self.process = process
        self.said = said
        self.state = folder / "state"
        self.log = folder / "log"
        urls = re.findall(r"https?://[0-9a-z.:\[\]]+", "\n".join(said[:2]))
        self.url: str = urls[0]
        self.admins: list[str] = urls[2:]
        """Of each worker."""

    def pids(self) -> list[int]:
        """The processes of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(word) for word in children.split()]

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [msgspec.json.decode(line) for line in self.log.read_bytes().splitlines() if line.startswith(b"{")]
        return [line for line in lines if line["event"] == name]

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.state / "sidegate.db")) as database:
            return database.execute(statement).fetchall()

    async def told(self, event: str) -> bool:
        return bool(self.events(event))

    async def counts(self, condition: str, count: int) -> bool:
        return self.rows(f"SELECT count(*) FROM calls WHERE {condition}") == [(count,)]

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """By a signal to the supervisor alone."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        async with asyncio.timeout(60):
            return await self.process.wait()


@asynccontextmanager
async def supervised(folder: Path, config: Mapping[str, Any], *options: str) -> AsyncIterator[Supervised]:
    """Start it, and see to it that nobody is left."""
    path = written(folder, config)
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command(path, *options), stdout=log, stderr=asyncio.subprocess.PIPE, start_new_session=True
        )
    assert process.stderr is not None
    said: list[str] = []
    async with asyncio.timeout(60):
        while len(said) < 2 or (said and "workers" not in said[1]):
            line = (await process.stderr.readline()).decode()
            assert line, f"it did not start: {said}"
            said.append(line.rstrip())
    made = Supervised(process, said, folder)
    pids = made.pids()
    try:
        yield made
    finally:
        for pid in (*(made.pids() if process.returncode is None else ()), *pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def refused(folder: Path, config: Mapping[str, Any], *options: str) -> tuple[int, str]:
    """The exit code and what was said, where it does not start."""
    process = await asyncio.create_subprocess_exec(
        *command(written(folder, config), *options), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
    assert process.returncode is not None
    return process.returncode, said.decode()


def written(folder: Path, config: Mapping[str, Any]) -> Path:
    path = folder / "config.json"
    filled = {"listen": {"port": 0}, "admin": {"port": 0}, "workers": 3, "state": str(folder / "state"), **config}
    path.write_bytes(msgspec.json.encode(filled))
    return path


def command(path: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "sidegate", "serve", str(path), *options]


def spare_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first: int = probe.getsockname()[1]
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            continue
        return first


@asynccontextmanager
async def one_connection_a_call() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that keeps no connection, so that every call may reach another worker."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as session:
        yield session


async def eventually(true: Callable[[], Awaitable[Any]]) -> None:
    """Until it is so; a machine that is busy has a minute."""
    async with asyncio.timeout(60):
        while not await true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def gone(pids: Iterable[int]) -> None:
    """Until none of the processes is there."""

    async def none() -> bool:
        return not any(Path(f"/proc/{pid}").exists() for pid in pids)  # noqa: ASYNC240

    await eventually(none)


async def status(http: aiohttp.ClientSession, url: str) -> int:
    """0 where nobody answers."""
    try:
        async with http.get(url) as reply:
            return reply.status
    except aiohttp.ClientError:
        return 0


async def in_flight(http: aiohttp.ClientSession, admin: str) -> int:
    """How many calls a worker has in flight, by its metrics."""
    async with http.get(admin + "/metrics") as reply:
        lines = (await reply.text()).splitlines()
    return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("sidegate_calls_in_flight ")))


async def calls_of(http: aiohttp.ClientSession, admin: str) -> int:
    """How many chat calls a worker has answered, by its metrics."""
    async with http.get(admin + "/metrics") as reply:
        text = await reply.text()
    lines = [line for line in text.splitlines() if line.startswith("sidegate_calls_total{") and '"chat"' in line]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))
