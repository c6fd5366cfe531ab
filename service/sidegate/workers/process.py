"""A worker as its supervisor sees it: a process with a lifeline, started again and again."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from sidegate.config import Loaded
from sidegate.workers.lifeline import Again, Asked, Followed, Ready, Refused, Task, Up, packed, read_up

_LONGEST = 2**20


class Process:
    """One place among the workers, and the process that holds it at the time."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.serves = False
        """Whether the process has said so; one that has not may die of a signal, and nothing is lost."""
        self.loaded: Loaded | None = None
        """The config it was given last and did not refuse."""
        self._process: asyncio.subprocess.Process | None = None
        self._following: asyncio.Future[Followed] | None = None
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
        self.loaded = loaded
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
        said = await self._line()
        if not isinstance(said, Ready):
            await self.ended()
            return None
        self.serves = True
        return said

    async def hear(self, asked: Callable[[Asked], None]) -> None:
        """Once it is ready: what it says, until it ends. `asked` is called where somebody asks it for a reload."""
        while (said := await self._line()) is not None:
            if isinstance(said, Asked):
                asked(said)
            elif isinstance(said, Followed) and self._following is not None and not self._following.done():
                self._following.set_result(said)
        if self._following is not None and not self._following.done():
            self._following.set_result(Followed(error=f"worker {self.number} ended", status=503, code="worker_gone"))

    async def follow(self, loaded: Loaded, why: str) -> Followed:
        """Put this config in force there. One after the other."""
        assert self._writer is not None
        self._following = asyncio.get_running_loop().create_future()
        self._writer.write(packed(Again(loaded, why)))
        followed = await self._following
        if followed.error is None:
            self.loaded = loaded
        return followed

    def tell(self, news: Followed | Refused) -> None:
        """What came of a reload: that it has asked for, or that others have."""
        if self._writer is not None:
            self._writer.write(packed(news))

    async def _line(self) -> Up | None:
        """`None` where it has ended, or says what makes no sense."""
        assert self._reader is not None
        data = b""
        with suppress(ConnectionError, ValueError):
            data = await self._reader.readline()
        return read_up(data) if data.endswith(b"\n") else None

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
