"""Counters: rates and concurrency, in this process or shared by all replicas. What `host.rates` and `host.slots` are.

A plugin claims everything that one call needs of a kind at once: all of it is granted, or nothing is taken. In a shared
store that is one round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

OnStoreFailure: TypeAlias = Literal["allow", "deny", "local"]
"""While the shared store does not answer in time: nothing holds, all is refused, or this process counts for itself."""


class RateClaim(Struct, frozen=True, gc=False):
    """Take `amount` of `limit` per `period` seconds. An amount of 0 takes nothing, and only looks."""

    key: str
    limit: int
    period: float
    amount: int = 1
    on_store_failure: OnStoreFailure = "local"


class Grant(Struct, frozen=True, gc=False):
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


class SlotClaim(Struct, frozen=True, gc=False):
    """Hold one of `limit` slots. At most `queue` calls wait for one, each for `wait` seconds; 0: none does."""

    key: str
    limit: int
    queue: int = 0
    wait: float = 0.0
    on_store_failure: OnStoreFailure = "local"


class SlotCounters(Protocol):
    """Concurrent holders per key, with a fair queue."""

    def hold(self, claims: Sequence[SlotClaim]) -> AbstractAsyncContextManager[None]:
        """Hold a slot of each for the length of the block, or none; first come, first served.

        Who is kept waiting by one claim does not keep others from its rest. It waits as long as the most impatient of
        the claims that have no slot.

        Raises `Refusal` 429 `concurrency_limit_exceeded` where there is no place or the wait was in vain, and 503
        `limit_store_unavailable` where the shared store failed and a claim says `deny`. Leaving the block never waits.
        """
        ...
