"""A gateway as a process that is killed: started, ready, and gone without a word."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import msgspec

from sidegate.cli import main
from tests.stores import Store


class Killable:
    """`sidegate serve` on one store, again and again. Another of the same `directory` is another replica."""

    def __init__(self, directory: Path, config: Mapping[str, Any], store: Store) -> None:
        self.config = directory / "config.json"
        self.store = store
        self.config.write_bytes(
            msgspec.json.encode(
                {
                    **config,
                    "listen": {"port": 0},
                    "admin": {"port": 0},
                    "state": str(directory / "state"),
                    "ledger": {**config.get("ledger", {}), "url": store.url},
                }
            )
        )
        self.url = ""
        self.admin_url = ""
        self.log = b""
        """What it has written on standard error."""
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, **environ: str) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sidegate", "serve", str(self.config)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=-1,
            env={**os.environ, **environ},
        )
        assert self._process.stderr is not None
        line = ""
        while "is ready" not in line:
            line = (await self._process.stderr.readline()).decode()
            self.log += line.encode()
            if not line:
                await self._process.wait()
                raise AssertionError(f"the gateway did not start: {self.log!r}")
        self.url, self.admin_url = (word for word in line.replace(")", "").split() if word.startswith("http"))
        self._reading = asyncio.create_task(self._read(self._process.stderr))

    async def _read(self, said: asyncio.StreamReader) -> None:
        """A pipe that nobody reads would stop who writes to it."""
        while data := await said.read(2**16):
            self.log += data

    def kill(self) -> None:
        """Now, whatever it does."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def gone(self) -> int:
        """Returns when it has ended; its exit code."""
        assert self._process is not None
        assert self._reading is not None
        code = await self._process.wait()
        await self._reading
        return code

    async def stop(self) -> None:
        """By SIGTERM, in order."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert await self.gone() == 0, self.log

    def reconcile(self, *options: str) -> str:
        """What `sidegate ledger reconcile` prints."""
        said = io.StringIO()
        with redirect_stdout(said):
            assert main(["ledger", "reconcile", str(self.config), *options]) == 0
        return said.getvalue()
