"""The arithmetic of a leaky bucket: what its level says to whoever asks. The same in memory and in a shared store."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sidegate.contract.counters import Grant, RateClaim

SLACK = 1e-6
"""Seconds added to `retry_after`, so that whoever comes back then is not refused by a rounding error."""


ROUNDING = 1e-9
"""Of a level: what drains by the fractions of seconds is never quite what it was."""


def granted(claim: RateClaim, level: float) -> Grant:
    """`level` is what was taken and has not drained yet, this claim included."""
    left = math.floor(claim.limit - level + ROUNDING)
    return Grant(True, claim.limit, left if left > 0 else 0, level * claim.period / claim.limit, 0.0)


def all_looked(claims: Sequence[RateClaim], levels: Sequence[float]) -> tuple[Grant, ...]:
    """What claims find that were refused together. Those of one bucket stand on each other."""
    below: dict[tuple[str, int, float], float] = {}
    grants = []
    for claim, level in zip(claims, levels, strict=True):
        bucket = (claim.key, claim.limit, claim.period)
        grants.append(looked(claim, level + below.get(bucket, 0)))
        below[bucket] = below.get(bucket, 0) + claim.amount
    return tuple(grants)


def looked(claim: RateClaim, level: float) -> Grant:
    """What a claim finds at `level` while nothing is taken. More than the limit never has room: a period is said."""
    limit, period, amount = claim.limit, claim.period, claim.amount
    left = max(0, math.floor(limit - level + ROUNDING))
    reset = level * period / limit
    if level + amount <= limit + ROUNDING:
        return Grant(True, limit, left, reset, 0.0)
    if amount > limit:
        return Grant(False, limit, left, reset, period)
    return Grant(False, limit, left, reset, (level + amount - limit) * period / limit + SLACK)


def check(claim: RateClaim) -> None:
    """Raises `ValueError` for a claim that means nothing."""
    if claim.limit < 1 or not 0 < claim.period < math.inf:
        raise ValueError("limit must be at least 1, and period a number of seconds")
    if claim.amount < 0:
        raise ValueError("amount must not be negative")
