"""Kept: what is known of a response that a provider keeps, and where that is noted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from sidegate.contract.meaning import Usage

REMEMBERED = 1000
"""Responses that are known without asking the store."""


class Kept(Struct, frozen=True, kw_only=True):
    """A response, and its provider."""

    id: str
    """The provider's, as the client knows it."""
    provider: str
    """Its name in the config."""
    target: str
    """The model, as the provider was asked for it."""
    model: str
    """The model, as the client asked for it."""
    caller: str
    call_id: str
    credential: str
    """The mark of the key it was asked with; empty where there is one key only."""
    background: bool
    """What it uses is known when it is fetched, maybe long after its call has ended."""
    kept_at: str
    """UTC, as the ledger has times."""


class Bill(Struct, frozen=True, kw_only=True):
    """What a response has used that went on after its call had ended."""

    kept: Kept
    usage: Usage
    route: str
    """By which it was fetched; that it was made by may have prices where this has none."""
    rates: str | None
    cost: int | None
    """Nano-USD."""
    now: str


class KeptStore(Protocol):
    """Nothing runs on the event loop. All raise `Refusal` 503 `responses_unavailable` where the store does not
    answer; those that write raise `Unfit` for what it can never take."""

    async def add(self, kept: Iterable[Kept]) -> None:
        """What is there already stays as it is."""
        ...

    async def find(self, id: str) -> list[Kept]:
        """Those of all callers, the newest first: two providers may have given the same id."""
        ...

    async def remove(self, kept: Kept) -> None: ...

    async def settle(self, bill: Bill) -> bool:
        """Settle the call that the response was made by, once. False where its own record is not written yet. What
        cannot be settled by this bill, for want of a price or of a count, stays unknown."""
        ...

    async def close(self) -> None: ...


class MemoryStore:
    """Without a ledger: nothing is known beyond what is remembered anyway."""

    async def add(self, kept: Iterable[Kept]) -> None:
        """Remembered already."""

    async def find(self, id: str) -> list[Kept]:
        return []

    async def remove(self, kept: Kept) -> None:
        """Forgotten already."""

    async def settle(self, bill: Bill) -> bool:
        """There is no record of the call that could be changed."""
        return True

    async def close(self) -> None:
        """Nothing is open."""


class Recent:
    """The last ones of this process, those that are not written yet included."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._all: OrderedDict[tuple[str, str], Kept] = OrderedDict()

    def add(self, kept: Kept) -> bool:
        """Whether it is new."""
        place = kept.id, kept.provider
        if place in self._all:
            return False
        self._all[place] = kept
        if len(self._all) > self._most:
            self._all.popitem(last=False)
        return True

    def find(self, id: str) -> list[Kept]:
        """Those of all callers, the newest first."""
        return [kept for (known, _), kept in reversed(self._all.items()) if known == id]

    def forget(self, kept: Kept) -> None:
        self._all.pop((kept.id, kept.provider), None)
