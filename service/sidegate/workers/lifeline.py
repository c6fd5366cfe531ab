"""The lifeline of a worker: a pair of sockets between it and the process that looks after it.

Down it comes, once, what the worker is to do; up goes that it is ready. Whoever reads the end of it knows that the
other is gone: a worker whose supervisor was killed drains and ends.
"""

from __future__ import annotations

import pickle
import socket
import struct
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from sidegate.config import Loaded

_LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is to do. Pickled: it comes from the process that started the worker, and from nobody else."""

    loaded: Loaded
    number: int
    """Which worker it is, from 0."""
    sockets: tuple[int, ...]
    """The descriptors it listens on, inherited."""


class Ready(Struct, frozen=True):
    """A worker serves."""

    url: str
    admin_url: str
    said: list[str]
    """What is to be shown of it on the terminal, line by line."""


def packed(task: Task) -> bytes:
    """A task as it is sent: its length, then itself."""
    data = pickle.dumps(task)
    return _LENGTH.pack(len(data)) + data


def receive(lifeline: socket.socket) -> Task:
    """Wait for the task. Raises `EOFError` where whoever was to send it is gone."""
    (length,) = _LENGTH.unpack(_exactly(lifeline, _LENGTH.size))
    task = pickle.loads(_exactly(lifeline, length))
    assert isinstance(task, Task)
    return task


def tell_ready(lifeline: socket.socket, ready: Ready) -> None:
    """Once, by the worker: it serves now."""
    lifeline.sendall(msgspec.json.encode(ready) + b"\n")


def _exactly(lifeline: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = lifeline.recv(size - len(data))
        if not piece:
            raise EOFError("the supervisor is gone")
        data += piece
    return data
