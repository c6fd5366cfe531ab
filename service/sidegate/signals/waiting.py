"""Waiting for answers: who has said what, and how long the rest is waited for."""

from __future__ import annotations

import asyncio

from msgspec import Raw, Struct

from sidegate.signals.asking import Heard, Question

PATIENCE_SECONDS = 6.0
"""How long who has claimed a question may take for its answer: a call is given 5 seconds to end."""


NULL = Raw(b"null")


class Asked(Struct, frozen=True, tag="asked"):
    """A question on its way to all."""

    id: str
    by: str
    question: Question


class Said(Struct, frozen=True, tag="said"):
    """An answer on its way back; null says that it is not there. `claims`: there is one, later."""

    id: str
    of: str
    claims: bool = False
    body: Raw = NULL


class Waiting:
    """The answers to one question."""

    def __init__(self, *, first: bool) -> None:
        self._first = first
        self._expected: int | None = None
        self._claims: set[str] = set()
        self._over: set[str] = set()
        self._bodies: list[bytes] = []
        self._news = asyncio.Event()

    def expect(self, gateways: int) -> None:
        """So many must answer. Some may have done so before this is known."""
        self._expected = gateways
        self._news.set()

    def take(self, said: Said) -> None:
        if said.of in self._over:
            return
        if said.claims:
            self._claims.add(said.of)
        else:
            self._over.add(said.of)
            body = bytes(said.body)
            if body != b"null":
                self._bodies.append(body)
        self._news.set()

    async def heard(self, seconds: float) -> Heard:
        """All answers, or those that came within `seconds`; who has claimed the question is given longer."""
        began = asyncio.get_running_loop().time()
        while not self._done:
            due = began + (PATIENCE_SECONDS if self._claims - self._over else seconds)
            self._news.clear()
            try:
                async with asyncio.timeout_at(due):
                    await self._news.wait()
            except TimeoutError:
                break
        return Heard(tuple(self._bodies), self._done)

    @property
    def _done(self) -> bool:
        if self._first and self._bodies:
            return True
        return self._expected is not None and len(self._over) >= self._expected
