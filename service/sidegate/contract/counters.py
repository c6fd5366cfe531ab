"""Counters: rates and concurrency, in this process or shared by all replicas. What `host.rates` and `host.slots` are.

A plugin claims everything that one call needs of a kind at once: all of it is granted, or nothing is taken. In a shared
store that is one round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

OnStoreFailure: TypeAlias = Literal["allow", "deny", "local"]
"""While the shared store does not answer in time: nothing holds, all is refused, or this process counts for itself."""


@dataclass(frozen=True, slots=True)
class RateClaim:
    """Take `amount` of `limit` per `period` seconds."""

    key: str
    limit: int
    period: float
    amount: int = 1
    on_store_failure: OnStoreFailure = "local"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a limit answered: whether there was room, how much is left, and when there is more."""

    allowed: bool
    limit: int
    remaining: int
    reset: float
    """Seconds until the limit is whole again."""
    retry_after: float
    """Seconds until the same request would be let through; 0 where it was."""


class RateCounters(Protocol):
    """Counts per key, limit and period."""

    async def take(self, claims: Sequence[RateClaim]) -> tuple[Grant, ...]:
        """Take from all, or from none: one `Grant` for each claim, and something was taken where all are `allowed`.

        It never waits for room, and for a shared store no longer than the config says. Raises `Refusal` 503
        `limit_store_unavailable` where the store failed and a claim says `deny`.
        """
        ...

    def correct(self, claim: RateClaim, used: int) -> None:
        """Settle a claim that was granted: `used` is known now. What was taken too much is given back; what is missing
        is taken, also where there is no room for it. Never waits and never fails: it may be called under cancellation.
        """
        ...


@dataclass(frozen=True, slots=True)
class SlotClaim:
    """Hold one of `limit` slots. At most `queue` calls wait for one, each for `wait` seconds."""

    key: str
    limit: int
    queue: int = 0
    wait: float = 0.0
    on_store_failure: OnStoreFailure = "local"


class SlotCounters(Protocol):
    """Concurrent holders per key, with a fair queue."""

    def hold(self, claims: Sequence[SlotClaim]) -> AbstractAsyncContextManager[None]:
        """Hold a slot of each for the length of the block; first come, first served.

        Raises `Refusal` 429 `concurrency_limit_exceeded` where there is no place or the wait was in vain, and 503
        `limit_store_unavailable` where the shared store failed and a claim says `deny`. Leaving the block never waits.
        """
        ...
