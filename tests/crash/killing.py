"""A gateway as a process that is killed: started, ready, and gone without a word."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec


class Killable:
    """`sidegate serve` on one state, again and again."""

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        self.config = directory / "config.json"
        self.database = directory / "state" / "sidegate.db"
        self.config.write_bytes(
            msgspec.json.encode(
                {**config, "listen": {"port": 0}, "admin": {"port": 0}, "state": str(directory / "state")}
            )
        )
        self.url = ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sidegate", "serve", str(self.config), stdout=asyncio.subprocess.DEVNULL, stderr=-1
        )
        assert self._process.stderr is not None
        line = ""
        while "is ready" not in line:
            line = (await self._process.stderr.readline()).decode()
            assert line, "the gateway did not start"
        self.url = next(word for word in line.replace(")", "").split() if word.startswith("http"))

    def kill(self) -> None:
        """Now, whatever it does."""
        assert self._process is not None
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def gone(self) -> None:
        assert self._process is not None
        await self._process.wait()

    async def stop(self) -> None:
        """By SIGTERM, in order."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert await self._process.wait() == 0

    async def reconcile(self, *options: str) -> str:
        """What `sidegate ledger reconcile` prints."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sidegate", "ledger", "reconcile", str(self.config), *options, stdout=-1, stderr=-1
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database)) as file:
            return file.execute(statement).fetchall()
