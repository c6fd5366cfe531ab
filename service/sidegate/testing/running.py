"""A real gateway for a test: the config as a mapping, free ports, a directory of its own, the log kept."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from sidegate.config import read_mapping
from sidegate.contract.host import Clock, SystemClock
from sidegate.gateway import Gateway
from sidegate.service import Service
from sidegate.telemetry.logs import JsonLog


class KeptLog:
    """A stream that keeps the log's lines."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes, /) -> None:
        self.data += data

    def flush(self) -> None:
        """Nothing is buffered."""

    def events(self, event: str) -> list[dict[str, Any]]:
        """The lines of one event, in order."""
        lines = [msgspec.json.decode(line) for line in self.data.split(b"\n") if line]
        return [line for line in lines if line["event"] == event]


class Running:
    """A gateway that serves at `url` (no trailing slash), with metrics and health at `admin_url`."""

    def __init__(self, gateway: Gateway, log: KeptLog) -> None:
        self.gateway = gateway
        self.log = log

    @property
    def url(self) -> str:
        return self.gateway.url

    @property
    def admin_url(self) -> str:
        return self.gateway.admin_url

    @property
    def service(self) -> Service:
        return self.gateway.service


@asynccontextmanager
async def gateway(
    config: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, clock: Clock | None = None
) -> AsyncIterator[Running]:
    """Start a gateway from `config`, and stop it. Left out of the config: free ports, a state that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="sidegate-") as directory:
        base = Path(directory)
        filled = {
            "listen": {"port": 0},
            "admin": {"port": 0},
            "state": str(base / "state"),
            **config,
        }
        loaded = read_mapping(filled, environ or {}, base)
        kept = KeptLog()
        running = Gateway(loaded, JsonLog(kept, clock or SystemClock()), clock)
        await running.start()
        try:
            yield Running(running, kept)
        finally:
            await running.stop()


def demo_config(
    *plugins: Mapping[str, Any], attempt: tuple[Mapping[str, Any], ...] = (), **rest: Any
) -> dict[str, Any]:
    """A config of the demo provider, flat out, behind these plugins."""
    return {
        "providers": {"demo": {"dialect": "demo", "settings": {"tokens_per_second": 0, "first_token": 0}}},
        "models": {"demo*": {"provider": "demo"}, "demo": {"provider": "demo"}},
        "pipelines": {"main": {"plugins": list(plugins), "attempt": list(attempt)}},
        "server": {"drain": 2},
        **rest,
    }
