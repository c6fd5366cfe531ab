"""The headers of `rate_limit`: where a caller is, by the IETF draft and by OpenAI's names."""

from __future__ import annotations

import math
from typing import NamedTuple

from sidegate.contract import Grant, RateClaim


class Standing(NamedTuple):
    """One limit, and what it answered."""

    name: str
    claim: RateClaim
    grant: Grant


def tell(headers: dict[str, str], standings: list[Standing]) -> None:
    """draft-ietf-httpapi-ratelimit-headers-11 for all limits, OpenAI's `x-ratelimit-*` for the tightest."""
    _add(
        headers,
        "ratelimit-policy",
        {one.name: f"q={one.claim.limit};w={math.ceil(one.claim.period)}" for one in standings},
    )
    _add(headers, "ratelimit", {s.name: f"r={s.grant.remaining};t={math.ceil(s.grant.reset)}" for s in standings})
    tightest = min(standings, key=lambda one: (one.grant.remaining, -one.grant.reset))
    remaining = tightest.grant.remaining
    if remaining <= int(headers.get("x-ratelimit-remaining-requests", remaining)):
        headers["x-ratelimit-limit-requests"] = str(tightest.claim.limit)
        headers["x-ratelimit-remaining-requests"] = str(remaining)
        headers["x-ratelimit-reset-requests"] = duration(tightest.grant.reset)


def _add(headers: dict[str, str], name: str, items: dict[str, str]) -> None:
    """Beside what another `rate_limit` said; in place of what this one said in an earlier run of the same call."""
    old = headers.get(name, "")
    kept = [item for item in old.split(", ") if item and item.partition(";")[0].strip('"') not in items]
    headers[name] = ", ".join([*kept, *(f'"{key}";{value}' for key, value in items.items())])


def duration(seconds: float) -> str:
    """As OpenAI writes it: `12ms`, `1.5s`, `6m0s`, `2h0m3s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{math.ceil(seconds * 1000) / 1000:g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
