"""Servers under test: how each is started, and by which key it lets the load in."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from bench.load import Connection, Line
from bench.process import Cores, Process
from bench.replies import Incomplete
from bench.traffic import BUFFERED

Config = dict[str, Any]

READY_SECONDS = 240
DIRECT = "direct"
RELAY = "relay"
LEAN = "lean relay"
GATEWAY = "sidegate"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a server is told: where to listen, whom to ask, and a directory of its own."""

    port: int
    provider: str
    directory: Path


@dataclass(frozen=True, slots=True)
class Server:
    """One column of the table. `command` gives the words of its command line."""

    name: str
    command: Callable[[Setting], Sequence[str]]
    key: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    """What its process finds in its environment besides."""


@dataclass(slots=True)
class Running:
    """A server that has answered its first call."""

    server: Server
    process: Process | None
    line: Line
    ready: float = 0.0
    """Seconds from the start of its process to the first reply."""


def relay() -> Server:
    """The bare aiohttp relay."""
    return Server(RELAY, lambda told: [sys.executable, "-m", "bench.relay", str(told.port), told.provider])


def lean() -> Server:
    """The relay on the gateway's own transport: what is left between it and the gateway is the gateway's work."""
    return Server(LEAN, lambda told: [sys.executable, "-m", "bench.lean_relay", str(told.port), told.provider])


def gateway(
    change: Callable[[Config], None] = lambda config: None,
    *,
    name: str = GATEWAY,
    prepare: Callable[[Setting], None] = lambda told: None,
) -> Server:
    """The gateway by its own command line, with every shipped plugin on, and with what `change` makes of its config.
    `prepare` is called before it starts."""
    key = f"sg-{secrets.token_urlsafe(32)}"

    def command(told: Setting) -> Sequence[str]:
        config = gateway_config(told, key)
        change(config)
        prepare(told)
        path = told.directory / "sidegate.yaml"
        # JSON is YAML.
        path.write_bytes(msgspec.json.encode(config))
        return [sys.executable, "-m", "sidegate", "serve", str(path)]

    return Server(name, command, key)


def gateway_config(told: Setting, key: str) -> Config:
    """All plugins, with limits that count every call and refuse none."""
    plugins = [
        {"use": "log"},
        {"use": "api_key", "settings": {"keys": [{"name": "bench", "digest": _digest(key)}]}},
        {"use": "model_access", "settings": {"callers": {"bench": ["bench-*"]}}},
        {
            "use": "rate_limit",
            "settings": {"limits": [{"name": "per-caller", "requests": 10**9, "period": "second"}]},
        },
        {"use": "concurrency", "settings": {"limits": [{"name": "per-caller", "calls": 10_000}]}},
        {"use": "cost", "settings": {"prices": {"bench-*": {"input": 0.15, "output": 0.60}}}},
        {"use": "structured_output"},
    ]
    return {
        "listen": {"port": told.port},
        "admin": {"port": 0},
        "state": str(told.directory),
        "providers": {"mock": _provider(told)},
        "models": {"bench-*": {"provider": "mock"}},
        "pipelines": {"main": {"plugins": plugins}},
        "routes": [{"name": "main", "pipeline": "main"}],
        "server": {"drain": 1},
    }


def _provider(told: Setting) -> dict[str, object]:
    return {"dialect": "openai", "base_url": told.provider + "/v1", "api_key": "sk-mock", "max_connections": 10_000}


def _digest(key: str) -> str:
    return f"sha256:{sha256(key.encode()).hexdigest()}"


def peer(name: str, command: str, key: str = "") -> Server:
    """Another gateway: a command line in which `{port}`, `{provider}` and `{directory}` stand for what it is told."""

    def words(told: Setting) -> Sequence[str]:
        places = {"port": told.port, "provider": told.provider, "directory": told.directory}
        return [word.format_map(places) for word in shlex.split(command)]

    return Server(name, words, key)


def free_port() -> int:
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


async def start(server: Server, provider: str, directory: Path, cores: Cores) -> Running:
    """Start it, and return once it has answered a call. It is stopped again where it does not."""
    own = directory / f"{server.name}-{secrets.token_hex(4)}"
    own.mkdir()
    line = Line(free_port(), server.key)
    command = server.command(Setting(line.port, provider, own))
    begun = time.monotonic()
    process = Process(command, cores.server, own / "stderr", server.environ)
    try:
        await _answered(process, line)
    except BaseException:
        process.stop()
        raise
    return Running(server, process, line, time.monotonic() - begun)


async def _answered(process: Process, line: Line) -> None:
    """Ask until there is a whole reply. That is the same question for every server, whatever it calls ready."""
    problem: Exception = TimeoutError("it was never asked")
    request = line.request(BUFFERED, stream=False)
    try:
        async with asyncio.timeout(READY_SECONDS):
            while True:
                process.check()
                connection = Connection()
                try:
                    await connection.send(line.port, request)
                    await connection.reply()
                    return
                except (OSError, Incomplete) as error:
                    problem = error
                finally:
                    connection.close()
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise RuntimeError(f"a server on port {line.port} did not answer: {problem}") from problem
