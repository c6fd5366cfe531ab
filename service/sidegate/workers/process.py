"""A worker as its supervisor sees it: a process with a lifeline, started again and again."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from sidegate.config import Loaded
from sidegate.workers.lifeline import Ready, Task, packed

_LONGEST = 2**20


class Process:
    """One place among the workers, and the process that holds it at the time."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.serves = False
        """Whether the process has said so; one that has not may die of a signal, and nothing is lost."""
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def begun(self) -> bool:
        return self._process is not None

    @property
    def code(self) -> int | None:
        """How it ended: 0 for well, below 0 for a signal; `None` while it runs."""
        return None if self._process is None else self._process.returncode

    async def start(self, loaded: Loaded, sockets: Sequence[socket.socket]) -> None:
        """A new process, with its task. It is in a group of its own: Ctrl-C reaches the supervisor alone."""
        self.serves = False
        ours, theirs = socket.socketpair()
        try:
            inherited = tuple(made.fileno() for made in sockets)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sidegate.workers.worker",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *inherited),
                process_group=0,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=_LONGEST)
        self._writer.write(packed(Task(loaded, self.number, inherited)))

    async def ready(self) -> Ready | None:
        """What it says when it serves; `None` where it ended before."""
        assert self._reader is not None
        line = b""
        with suppress(ConnectionError, ValueError):
            line = await self._reader.readline()
        if not line.endswith(b"\n"):
            await self.ended()
            return None
        self.serves = True
        return msgspec.json.decode(line, type=Ready)

    async def ended(self) -> int:
        """Wait for its end; gives `code`."""
        assert self._process is not None
        code = await self._process.wait()
        if self._writer is not None:
            self._writer.close()
        return code

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
