"""What the dialects share that ask how many tokens a request has.

Only a provider's own count is told: nothing is estimated. Asking costs nothing, and that is known: the usage of such a
call is 0 tokens, while the count is what its reply reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from sidegate.contract.meaning import End, Part, Report, Start, Usage
from sidegate.errors import ReplyError
from sidegate.wire.body import UNREADABLE
from sidegate.wire.dialect import Envelope, Meter, Sign

_ENCODE = msgspec.json.Encoder().encode


class CountMeter:
    """A `Meter`: the reply tells tokens and uses none. `read` finds the count, or raises."""

    reader = None

    def __init__(self, read: Callable[[bytes], int]) -> None:
        self.usage: Usage | None = None
        self.finish: Any = None
        self.model: str | None = None
        self.id: str | None = None
        self.output_bytes = 0
        self.started = False
        self.finished = False
        self._read = read

    def event(self, raw: bytes) -> Sign:
        raise no_count()

    def whole(self, raw: bytes) -> None:
        self._read(raw)
        self.usage = Usage(0, 0)
        self.started = self.finished = True
        self.finish = "stop"


class CountAssembler:
    """An `Assembler`: the count is the input of the usage that is reported, told under `key`."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._usage = Usage()

    def add(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if isinstance(part, Report):
                self._usage = self._usage.merge(part.usage)

    def body(self, base: bytes | None = None) -> bytes:
        told: dict[str, Any] = {} if base is None else msgspec.json.decode(base, type=dict[str, Any])
        return _ENCODE({**told, self._key: self._usage.input_tokens or 0})


class CountEncoder:
    """An `Encoder`: there is nothing to stream."""

    def encode(self, parts: Iterable[Part]) -> bytes:
        return b""


class Counts:
    """The reply's half of a `Dialect`: a number under `key`, never a stream."""

    key: str

    def read_count(self, raw: bytes) -> int:
        """The count of a reply. Raises `ReplyError` where it has none, `ProviderError` where it tells a failure."""
        raise NotImplementedError

    def meter(self) -> Meter:
        return CountMeter(self.read_count)

    def read_event(self, raw: bytes) -> tuple[Part, ...]:
        raise no_count()

    def read_whole(self, raw: bytes) -> tuple[Part, ...]:
        return (Start(), Report(Usage(self.read_count(raw), 0)), End())

    def encoder(self, envelope: Envelope) -> CountEncoder:
        return CountEncoder()

    def assembler(self, envelope: Envelope) -> CountAssembler:
        return CountAssembler(self.key)


def read_object(raw: bytes) -> dict[str, Any]:
    """The reply. Raises `ReplyError` where it is no object."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except UNREADABLE as error:
        raise no_count() from error


def count_of(value: Any) -> int:
    """Raises `ReplyError` where it is no count."""
    if type(value) is not int or value < 0:
        raise no_count()
    return value


def no_count() -> ReplyError:
    return ReplyError("The provider sent something that is no reply of its dialect.")
