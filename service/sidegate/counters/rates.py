"""Rates in this process: leaky buckets of aiolimiter, one for each key, limit and period, in bounded memory.

What the bound is worth: a bucket of `limit` per `period` lets through at most `limit * (1 + t / period)` in any stretch
of `t` seconds: a burst of `limit` at once, then a steady trickle. So one period can see up to twice the limit, once.

A drained bucket is worth as much as none, so forgetting it forgets nothing; one in use is never forgotten. When
`max_keys` buckets are in use, a new key is refused until the first of them is drained. Measured on CPython 3.11: 820
bytes a bucket, key of 40 characters included, so about 80 MB at the default of 100 000; about 2 µs for a `take`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from heapq import heappop, heappush, heapreplace
from typing import TypeAlias

from aiolimiter import AsyncLimiter

from sidegate.contract.counters import Grant, RateClaim
from sidegate.contract.host import Clock
from sidegate.counters.leaky import ROUNDING, SLACK, all_looked, check, granted

_Key: TypeAlias = tuple[str, int, float]

_STEPS = 256
"""Entries looked at for one new key: what a full table of stale entries may cost a call, about half a millisecond."""


class LocalRates:
    """`contract.counters.RateCounters` for one process. Nothing here waits; of several processes, each counts alone."""

    def __init__(self, clock: Clock, max_keys: int = 100_000) -> None:
        if max_keys < 1:
            raise ValueError("max_keys must be at least 1")
        self._clock = clock
        self._timeline = _Timeline(clock)  # type: ignore[abstract]  # it raises, as it should
        self._max_keys = max_keys
        self._buckets: dict[_Key, _Bucket] = {}
        self._drains: list[tuple[float, _Key]] = []
        """A heap with one entry a bucket: when to look whether it is drained."""

    def __len__(self) -> int:
        """Buckets in memory."""
        return len(self._buckets)

    async def take(self, claims: Sequence[RateClaim]) -> tuple[Grant, ...]:
        """Take from all, or from none. Never waits."""
        return self.take_now(claims)

    def take_now(self, claims: Sequence[RateClaim]) -> tuple[Grant, ...]:
        """The same, for those who cannot await."""
        fresh: dict[_Key, _Bucket] = {}
        taken: list[tuple[RateClaim, _Bucket]] = []
        for claim in claims:
            bucket = self._buckets.get((claim.key, claim.limit, claim.period)) or self._fresh(claim, fresh)
            if bucket is None or not bucket.take(claim.amount):
                for other, used in taken:
                    used.move(-other.amount)
                return self._refused(claims, len(taken), full=bucket is None)
            taken.append((claim, bucket))
        for key, bucket in fresh.items():
            if bucket.level():
                self._keep(key, bucket)
        grants: list[Grant] = []
        for claim, bucket in taken:
            grants.append(granted(claim, bucket.level()))
        return tuple(grants)

    def correct(self, claim: RateClaim, used: int) -> None:
        """Settle a claim by what was used. The level may go over the limit: a debt, which drains like the rest."""
        self.add(claim, used - claim.amount)

    def add(self, claim: RateClaim, amount: int, *, always: bool = True) -> None:
        """Put in, or take out, whatever the room. Of what has drained nothing is given back.

        A new bucket takes a place also where there is none, unless it need not be kept `always`.
        """
        key = (claim.key, claim.limit, claim.period)
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.take(0)
            bucket.move(amount)
        elif amount > 0 and (self._until_room() <= 0 or always):
            bucket = _Bucket(claim.limit, claim.period, self._timeline)
            bucket.take(0)
            bucket.move(amount)
            self._keep(key, bucket)

    def _fresh(self, claim: RateClaim, fresh: dict[_Key, _Bucket]) -> _Bucket | None:
        """A bucket for a key that has none, kept when something is in it; `None` where there is no place for it."""
        check(claim)
        key = (claim.key, claim.limit, claim.period)
        if key not in fresh:
            if self._until_room(len(fresh)) > 0:
                return None
            fresh[key] = _Bucket(claim.limit, claim.period, self._timeline)
        return fresh[key]

    def _refused(self, claims: Sequence[RateClaim], number: int, *, full: bool) -> tuple[Grant, ...]:
        """What all find since the claim of this number was refused, be it that the table is full.

        Nothing drains of those before it meanwhile, nor is forgotten: the refused one must not look as if it had room.
        """
        buckets = [self._buckets.get((claim.key, claim.limit, claim.period)) for claim in claims]
        for bucket in buckets[number + 1 :]:
            if bucket is not None and bucket not in buckets[: number + 1]:
                bucket.take(0)
        grants = all_looked(claims, [0.0 if bucket is None else bucket.level() for bucket in buckets])
        if not full:
            return grants
        wait = max(self._until_room(), SLACK)
        found = zip(grants, buckets, strict=True)
        return tuple([Grant(False, grant.limit, 0, wait, wait) if bucket is None else grant for grant, bucket in found])

    def level(self, key: str, limit: int, period: float) -> float:
        """What was taken and has not drained yet."""
        bucket = self._buckets.get((key, limit, period))
        if bucket is None:
            return 0.0
        bucket.take(0)
        return bucket.level()

    def _keep(self, key: _Key, bucket: _Bucket) -> None:
        self._buckets[key] = bucket
        heappush(self._drains, (self._clock.monotonic(), key))

    def _until_room(self, more: int = 0) -> float:
        """Forget what is drained; seconds until there is a place for another bucket, beside `more` new ones."""
        now = self._clock.monotonic()
        drains = self._drains
        for _ in range(_STEPS):
            if not drains:
                break
            at, key = drains[0]
            if at > now:
                break
            drained = self._buckets[key].drained_at()
            if drained <= now:
                heappop(drains)
                del self._buckets[key]
            else:
                heapreplace(drains, (drained, key))
        if len(self._buckets) + more < self._max_keys:
            return 0.0
        return (max(drains[0][0] - now, 0.0) if drains else 0.0) + SLACK


class _Bucket(AsyncLimiter):
    """One bucket, on the gateway's clock. What moves its level without waiting is not in aiolimiter's own interface."""

    __slots__ = ("_loop",)

    def __init__(self, limit: int, period: float, timeline: _Timeline) -> None:
        super().__init__(limit, period)
        self._loop: asyncio.AbstractEventLoop = timeline

    def level(self) -> float:
        """What was taken and had not drained when the bucket was last looked at."""
        return self._level

    def take(self, amount: int) -> bool:
        """Take where there is room, and let drain what has drained."""
        if amount < 0:
            raise ValueError("amount must not be negative")
        self._leak()
        level = self._level + amount
        if level > self.max_rate + ROUNDING:
            return False
        self._level = level
        return True

    def move(self, amount: int) -> None:
        self._level = max(0.0, self._level + amount)

    def drained_at(self) -> float:
        self._leak()
        return self._last_check + self._level / self._rate_per_sec


class _Timeline(asyncio.AbstractEventLoop):
    """All that a bucket asks of a loop: the time. Anything that would wait is not implemented, and so would raise."""

    def __init__(self, clock: Clock) -> None:
        self.time = clock.monotonic  # type: ignore[method-assign]
