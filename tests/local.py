"""Unix sockets for tests: short paths, and clients that call through them."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from sidegate.testing import demo_config

PATHS = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "responses": "/v1/responses",
    "gemini": "/v1beta/models/demo:generateContent",
    "ui": "/api/chat",
}


@contextmanager
def folder() -> Iterator[Path]:
    """One whose name is short: a socket's path has little room, and pytest's own folders are deep."""
    with tempfile.TemporaryDirectory(prefix="sg-", dir="/tmp") as made:
        yield Path(made)


@asynccontextmanager
async def through(path: Path | str) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the socket; the host in its URLs is what it likes."""
    async with aiohttp.ClientSession("http://gate", connector=aiohttp.UnixConnector(str(path))) as session:
        yield session


def on(path: Path, *plugins: Any, **rest: Any) -> dict[str, Any]:
    """A demo gateway that listens there, and nowhere else."""
    unix = {"path": str(path), **rest.pop("unix", {})}
    return demo_config(*plugins, listen={"unix": unix, **rest.pop("listen", {})}, **rest)


def asked(dialect: str, stream: bool, model: str = "demo") -> tuple[str, dict[str, Any]]:
    """Path and body of a question in a dialect."""
    message = {"role": "user", "content": "Tell me of the sea."}
    path = PATHS[dialect]
    match dialect:
        case "responses":
            return path, {"model": model, "stream": stream, "input": "Tell me of the sea."}
        case "gemini":
            path = path.replace(":generate", ":streamGenerate") + "?alt=sse" if stream else path
            return path, {"contents": [{"role": "user", "parts": [{"text": "Tell me of the sea."}]}]}
        case "ui":
            parts = [{"type": "text", "text": "Tell me of the sea."}]
            return path, {"id": "c", "model": model, "messages": [{"id": "m", "role": "user", "parts": parts}]}
        case _:
            return path, {"model": model, "stream": stream, "max_tokens": 30, "messages": [message]}


async def ask(session: aiohttp.ClientSession, dialect: str = "openai", stream: bool = False) -> tuple[int, bytes]:
    path, body = asked(dialect, stream)
    async with session.post(path, json=body) as reply:
        return reply.status, await reply.read()


def rights(path: Path) -> tuple[str, int, int]:
    """Of a socket: its mode, owner and group."""
    found = os.lstat(path)
    assert stat.S_ISSOCK(found.st_mode)
    return f"{stat.S_IMODE(found.st_mode):04o}", found.st_uid, found.st_gid


async def answers(path: Path) -> bool:
    """Whether somebody listens."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


def listening_here() -> int:
    """How many TCP sockets of this process listen."""
    tables = [Path(f"/proc/self/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}
    links = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return sum(link in inodes for link in links)
