"""A server as a process: found, started on a spare port as nobody in particular, and ended by its id."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/bin",
    "/usr/local/opt/postgresql*/bin",
)
"""Where servers are kept beside PATH: Debian, Red Hat, Homebrew on both its kinds of machine."""


def found(program: str) -> str | None:
    """The program on PATH or where packages put it, the newest version of several."""
    on_path = shutil.which(program)
    if on_path is not None:
        return on_path
    elsewhere = [
        path for place in PLACES for path in Path("/").glob(f"{place[1:]}/{program}") if os.access(path, os.X_OK)
    ]
    return str(max(elsewhere, key=_version)) if elsewhere else None


def _version(path: Path) -> int:
    return int("".join(each for each in path.parent.parent.name if each.isdigit()) or 0)


def spare_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def unprivileged(user: str) -> dict[str, Any]:
    """How to start a process that must not run as root: as this user where there is one, or as nobody."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get(user) or known["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextmanager
def folder(prefix: str, user: str) -> Iterator[Path]:
    """A folder of its own for a server; the user it runs as owns it."""
    owner = unprivileged(user)
    usual = Path(tempfile.gettempdir()).resolve()
    closed = owner and not all(part.stat().st_mode & 0o001 for part in (usual, *usual.parents))
    path = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp" if closed else None))
    try:
        if owner:
            os.chown(path, owner["user"], owner["group"])
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def served(
    command: Sequence[str], log: Path, answers: Callable[[], bool], end: signal.Signals = signal.SIGTERM, user: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers, for the length of the block. Raises `RuntimeError` with its log where it will not."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **unprivileged(user)
        )
    try:
        _await(process, answers, log)
        yield process
    finally:
        _stop(process, end)


def _await(process: subprocess.Popen[bytes], answers: Callable[[], bool], log: Path) -> None:
    until = time.monotonic() + 60
    while not answers():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{process.args!r} did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes], end: signal.Signals) -> None:
    process.send_signal(end)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
