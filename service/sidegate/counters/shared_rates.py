"""Rates that all replicas share. While the store is away each limit says what holds: nothing, all, or this process.

Every claim is counted in this process too, so that one that has to count for itself knows what it has let through, and
gives nobody a fresh limit. What it let through meanwhile is told to the store when it is back, less what has drained.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TypeAlias

from sidegate.contract.counters import Grant, RateClaim
from sidegate.counters.keys import shared_key
from sidegate.counters.leaky import all_looked, check, granted
from sidegate.counters.rate_script import SETTLE, TAKE, told
from sidegate.counters.rates import LocalRates
from sidegate.errors import Refusal
from sidegate.shared.line import StoreDown
from sidegate.shared.script import Argument, Order
from sidegate.shared.store import Store

_Bucket: TypeAlias = tuple[str, int, float]

MOST_OWED = 10_000
"""Buckets whose corrections wait to be sent. Beyond, the oldest are dropped; what they would give back drains."""

GATHER_SECONDS = 0.02
"""How long corrections wait for others, so that many calls that end cost one round trip."""


def unavailable() -> Refusal:
    """What is said by a limit that must not be passed uncounted."""
    message = "The store of limits is not available. Try again later."
    return Refusal(503, "limit_store_unavailable", message, retry_after=1)


class SharedRates:
    """`contract.counters.RateCounters` on a shared store."""

    def __init__(self, store: Store, local: LocalRates) -> None:
        self._store = store
        self._local = local
        self._owed: dict[_Bucket, tuple[int, int]] = {}
        """What is to be taken out, and what put in."""
        self._timer: asyncio.TimerHandle | None = None
        store.gather.append(self._orders)

    async def take(self, claims: Sequence[RateClaim]) -> tuple[Grant, ...]:
        """In one round trip. Raises `Refusal` 503 where the store is away and a claim says `deny`."""
        keys: list[str] = []
        arguments: list[Argument] = []
        for claim in claims:
            check(claim)
            keys.append(_key(self._store, claim.key, claim.limit, claim.period))
            arguments += (claim.limit, claim.period * 1e6, claim.amount)
        try:
            order = Order(TAKE, keys, arguments)
            taken, levels = told(await self._store.ask("rates", order, partial(self._undo, claims)))
        except StoreDown:
            return self._alone(claims)
        if not taken:
            return all_looked(claims, levels)
        for claim in claims:
            self._local.add(claim, claim.amount, always=False)
        return tuple([granted(claim, level) for claim, level in zip(claims, levels, strict=True)])

    def correct(self, claim: RateClaim, used: int) -> None:
        """Settle a claim: here at once, in the store with the next round trip."""
        difference = used - claim.amount
        if difference:
            self._local.add(claim, difference, always=False)
            self._owe(claim, difference)

    def _alone(self, claims: Sequence[RateClaim]) -> tuple[Grant, ...]:
        if any(claim.on_store_failure == "deny" for claim in claims):
            raise unavailable()
        own = [claim for claim in claims if claim.on_store_failure == "local"]
        found = dict(zip(map(id, own), self._local.take_now(own), strict=True))
        let_through = all(grant.allowed for grant in found.values())
        for claim in claims if let_through else ():
            if id(claim) not in found:
                self._local.add(claim, claim.amount, always=False)
            self._owe(claim, claim.amount)
        return tuple([found.get(id(claim)) or Grant(True, claim.limit, claim.limit, 0.0, 0.0) for claim in claims])

    def _undo(self, claims: Sequence[RateClaim], reply: bytes) -> None:
        """The answer came too late: what was decided without it counts."""
        taken, _ = told(reply)
        for claim in claims if taken else ():
            self._owe(claim, -claim.amount)

    def _owe(self, claim: RateClaim, amount: int) -> None:
        bucket = (claim.key, claim.limit, claim.period)
        back, more = self._owed.get(bucket, (0, 0))
        self._owed[bucket] = (back, more + amount) if amount > 0 else (back - amount, more)
        if len(self._owed) > MOST_OWED:
            del self._owed[next(iter(self._owed))]
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._nudge)

    def _nudge(self) -> None:
        self._timer = None
        self._store.nudge()

    def _orders(self) -> Iterator[Order]:
        """What is owed, summed up. A debt is told no higher than what has not drained here."""
        owed, self._owed = self._owed, {}
        for (key, limit, period), (back, more) in owed.items():
            due = min(more, self._local.level(key, limit, period))
            if back or due:
                yield Order(SETTLE, [_key(self._store, key, limit, period)], (limit, period * 1e6, back, due))


def _key(store: Store, key: str, limit: int, period: float) -> str:
    return f"{store.tag}r:{limit}:{float(period)!r}:{shared_key(key)}"
