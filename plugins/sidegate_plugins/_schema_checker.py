"""Checks JSON against schemas in processes that can be killed: no schema and no text can hold the gateway up."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from sidegate.errors import Refusal

START_SECONDS = 10.0
WAIT_SECONDS = 5.0
"""Longest that a check waits for a worker to be free."""

_SCRIPT: Final = Path(__file__).with_name("_schema_worker.py")
_KEPT = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH")
"""Of the environment: a worker gets no secrets."""

# The wire of `_schema_worker`, which is not imported: it would load jsonschema here.
_HEAD = struct.Struct(">III")
_LENGTH = struct.Struct(">I")
_NO_INSTANCE = 0xFFFFFFFF


class Verdict(Struct, frozen=True):
    """What a check found."""

    unsupported: str = ""
    """What is wrong with the schema."""
    malformed: str = ""
    """Why the instance is no JSON."""
    errors: tuple[tuple[str, str], ...] = ()
    """Pairs of JSON pointer and message, the first few."""
    overdue: bool = False
    """The check took too long, or took its process down."""

    @property
    def valid(self) -> bool:
        return self == _VALID


_VALID = Verdict()
_DECODER = msgspec.json.Decoder(Verdict)


class Checker:
    """Up to `workers` processes, started when first needed; one that takes longer than `timeout` seconds is killed."""

    def __init__(self, workers: int, timeout: float) -> None:
        self._timeout = timeout
        self._free = asyncio.Semaphore(workers)
        self._idle: list[Process] = []
        self._ending: set[asyncio.Task[int]] = set()
        self._stopped = False

    async def check(self, schema: bytes, instance: bytes | None = None) -> Verdict:
        """Check `instance` against `schema`, both JSON; without an instance, see whether the schema can be used.

        Raises `Refusal` 503 where no worker is free in time, or none can be started.
        """
        await self._wait()
        try:
            worker = self._resting() or await self._start()
            try:
                async with asyncio.timeout(self._timeout):
                    verdict = await _ask(worker, schema, instance, self._timeout)
            except BaseException as error:
                # It may be in the midst of anything: what it says next would be taken for another's answer.
                self._kill(worker)
                if isinstance(error, TimeoutError | OSError | EOFError):
                    return Verdict(overdue=True)
                raise
            self._rest(worker)
            return verdict
        finally:
            self._free.release()

    async def stop(self) -> None:
        self._stopped = True
        while self._idle:
            self._kill(self._idle.pop())
        await asyncio.gather(*self._ending)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._free.acquire()
        except TimeoutError as error:
            raise Refusal(503, "schema_check_busy", "Too many schemas are being checked.", retry_after=1) from error

    def _resting(self) -> Process | None:
        while self._idle:
            worker = self._idle.pop()
            if worker.returncode is None:
                return worker
        return None

    def _rest(self, worker: Process) -> None:
        if self._stopped:
            self._kill(worker)
        else:
            self._idle.append(worker)

    async def _start(self) -> Process:
        environ = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        try:
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-P", str(_SCRIPT), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environ
            )
            assert worker.stdout is not None
            try:
                async with asyncio.timeout(START_SECONDS):
                    await worker.stdout.readexactly(1)
            except BaseException:
                self._kill(worker)
                raise
        except (OSError, EOFError) as error:
            raise Refusal(503, "schema_check_unavailable", "The gateway cannot check schemas.") from error
        return worker

    def _kill(self, worker: Process) -> None:
        if worker.returncode is None:
            with suppress(ProcessLookupError):
                worker.kill()
        task = asyncio.get_running_loop().create_task(worker.wait())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


async def _ask(worker: Process, schema: bytes, instance: bytes | None, timeout: float) -> Verdict:
    assert worker.stdin is not None
    assert worker.stdout is not None
    size = _NO_INSTANCE if instance is None else len(instance)
    # Twice the time for its own alarm: it is for a worker whose gateway was killed.
    worker.stdin.write(_HEAD.pack(int(timeout * 2000), len(schema), size) + schema + (instance or b""))
    await worker.stdin.drain()
    (length,) = _LENGTH.unpack(await worker.stdout.readexactly(_LENGTH.size))
    return _DECODER.decode(await worker.stdout.readexactly(length))
