"""The lifeline of a worker: a pair of sockets between it and the process that looks after it.

Down come, pickled, what the worker is to do, each config that is to be put in force, and what came of a reload that it
asked for. Up go lines of JSON: that it is ready, how it took a config, and that somebody asks it for a reload. Whoever
reads the end of it knows that the other is gone: a worker whose supervisor was killed drains and ends.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from dataclasses import dataclass
from typing import Any, TypeAlias

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


class Ready(Struct, frozen=True, tag="ready"):
    """A worker serves."""

    url: str
    admin_url: str
    said: list[str]
    """What is to be shown of it on the terminal, line by line."""


class Asked(Struct, frozen=True, tag="asked"):
    """Somebody asks a worker for a reload, which is the supervisor's to do."""

    why: str


class Followed(Struct, frozen=True, tag="followed"):
    """What came of a reload, in one worker or in all."""

    generation: int = 0
    changed: tuple[str, ...] = ()
    error: str | None = None
    """Why nothing has changed there, in one line."""
    status: int = 422
    code: str = "config_refused"
    """Of that error."""


@dataclass(frozen=True, slots=True)
class Again:
    """Put this config in force."""

    loaded: Loaded
    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A reload came to nothing before it came to this worker."""

    error: str


Up: TypeAlias = Ready | Asked | Followed
Down: TypeAlias = Task | Again | Refused | Followed

_up: msgspec.json.Decoder[Up] = msgspec.json.Decoder(Up)


def packed(message: Down) -> bytes:
    """What goes down, as it is sent: its length, then itself."""
    data = pickle.dumps(message)
    return _LENGTH.pack(len(data)) + data


def receive(lifeline: socket.socket) -> Task:
    """Wait for the task. Raises `EOFError` where whoever was to send it is gone."""
    (length,) = _LENGTH.unpack(_exactly(lifeline, _LENGTH.size))
    task = pickle.loads(_exactly(lifeline, length))
    assert isinstance(task, Task)
    return task


async def read_down(reader: asyncio.StreamReader) -> Any:
    """What comes after the task. Raises `IncompleteReadError` where the supervisor is gone."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))


def line(message: Up) -> bytes:
    """What goes up, as it is sent."""
    return msgspec.json.encode(message) + b"\n"


def read_up(data: bytes) -> Up:
    """A line that came up."""
    return _up.decode(data)


def _exactly(lifeline: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = lifeline.recv(size - len(data))
        if not piece:
            raise EOFError("the supervisor is gone")
        data += piece
    return data
