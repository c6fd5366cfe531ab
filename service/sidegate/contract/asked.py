"""Asked: what came in, before anybody interpreted it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Raw, Struct

from sidegate.contract.meaning import Request
from sidegate.contract.peer import Peer
from sidegate.contract.timeouts import TimeoutChanges
from sidegate.errors import SidegateError


class Asked(Struct, frozen=True, kw_only=True):
    """What came in, before anybody interpreted it."""

    headers: Mapping[str, str] = {}
    """The request's headers, by case-insensitive name."""
    body: bytes = b""
    fields: Mapping[str, Raw] = {}
    """The body's top-level fields, each in the bytes it came in."""
    wants_usage: bool = True
    """Whether a stream may show the client its usage event."""
    timeouts: TimeoutChanges | None = None
    """What the client says of them by header."""
    wrong: SidegateError | None = None
    """What is wrong with the request, where it could not be read: plugins go first, then this is its answer."""
    peer: Peer | None = None
    read: Callable[[], Request] | None = None
    """Decodes the whole meaning of the body; raises `BadRequest`."""
    unsaid: Callable[[], Mapping[str, Sequence[Any]]] | None = None
    """Finds the fields deep in the body that `Request` has no word for, each with all its values: who looks for words
    looks there, too."""
    tokens: tuple[int, int] | None = None
    """The most that go in and come out, where that is in no byte of the body: a response within a session."""
    begun: bool = False
    """Its provider has begun of itself: it can be stopped, but what it has used is spent, whoever refuses."""
