"""Asking: a question to all other gateways, what each says, and whether all have said it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct


class Question(Struct, frozen=True):
    """What is asked in a caller's name. Whoever answers looks whose it is: another's does not exist.

    What begins with `any` is asked by whoever administers, and is of all callers.
    """

    about: Literal["calls", "call", "cancel", "any_calls", "any_call", "any_cancel"]
    caller: str
    call: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back, and whether it is all there is: everybody was asked, and has answered in time."""

    answers: tuple[bytes, ...]
    complete: bool


Claim: TypeAlias = Callable[[], None]
"""Say "it is mine, give me time": who asks then waits longer for this answer."""

Answerer: TypeAlias = Callable[[Question, Claim], Awaitable[bytes | None]]
"""Answers another gateway in JSON; `None` for what is not here."""


class Signals(Protocol):
    """Asks other gateways. Never raises for them: what cannot be asked makes `Heard.complete` false."""

    async def start(self, answerer: Answerer) -> None: ...

    async def stop(self) -> None: ...

    async def ask(self, question: Question, *, first: bool) -> Heard:
        """Ask all others, for a bounded time. `first`: one answer is enough, as only one can have it."""
        ...


class LocalSignals:
    """Nobody is asked. `alone`: there is nobody else; otherwise there are others that cannot be reached."""

    def __init__(self, *, alone: bool) -> None:
        self._heard = Heard((), alone)

    async def start(self, answerer: Answerer) -> None:
        """Nothing to listen to."""

    async def stop(self) -> None:
        """Nothing to leave."""

    async def ask(self, question: Question, *, first: bool) -> Heard:
        return self._heard
