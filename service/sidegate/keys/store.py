"""Store: where issued keys are kept, as the rest of the gateway sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from sidegate.errors import Refusal, SidegateError
from sidegate.keys.asked import Filter
from sidegate.keys.key import Key

MANY = 1000
"""Changes that are told one by one; more are told as `None`."""


class KeyStore(Protocol):
    """Issued keys. Nothing runs on the event loop. All raise `Refusal` 503 `key_store_unavailable` where the store
    does not answer."""

    async def add(self, key: Key) -> Key:
        """Keep a new key; gives it with its time of change."""
        ...

    async def get(self, id: str) -> Key | None: ...

    async def page(self, filter: Filter, now: datetime) -> list[Key]:
        """At most `filter.limit + 1` keys, in the order they were issued: one more says that there is another page."""
        ...

    async def update(self, id: str, change: Callable[[Key], Key]) -> Key | None:
        """Put what `change` makes of a key in its place, in one transaction; `None` where there is none. What `change`
        raises is raised, and nothing is changed."""
        ...

    async def find(self, digests: Sequence[str]) -> list[Key]:
        """Keys that are not revoked and have one of the digests, the present one or the previous."""
        ...

    async def changed(self, since: datetime | None) -> tuple[datetime | None, frozenset[str] | None]:
        """The time of the last change of all, and the ids of keys that changed after `since`: `None` for very many."""
        ...

    async def close(self) -> None: ...


def unavailable() -> Refusal:
    return Refusal(503, "key_store_unavailable", "The store of keys does not answer.", retry_after=1)


def missing() -> Refusal:
    return Refusal(404, "key_not_found", "There is no key of this id.")


class NoKeyStore:
    """Without a ledger there is nowhere to keep keys."""

    async def add(self, key: Key) -> Key:
        raise _nowhere()

    async def get(self, id: str) -> Key | None:
        raise _nowhere()

    async def page(self, filter: Filter, now: datetime) -> list[Key]:
        raise _nowhere()

    async def update(self, id: str, change: Callable[[Key], Key]) -> Key | None:
        raise _nowhere()

    async def find(self, digests: Sequence[str]) -> list[Key]:
        return []

    async def changed(self, since: datetime | None) -> tuple[datetime | None, frozenset[str] | None]:
        return since, frozenset()

    async def close(self) -> None:
        """Nothing is open."""


def _nowhere() -> SidegateError:
    return Refusal(501, "no_ledger", "This gateway keeps no ledger (`ledger.url`), so there is nowhere to keep keys.")
