"""The headers of `rate_limit`: where a caller is, by the IETF draft and by OpenAI's names."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sidegate.contract import Grant
from sidegate_plugins._rate_counts import Standing

_NAMES = {
    unit: (f"x-ratelimit-limit-{unit}", f"x-ratelimit-remaining-{unit}", f"x-ratelimit-reset-{unit}")
    for unit in ("requests", "tokens")
}


def tell(headers: dict[str, str], standings: Sequence[Standing]) -> None:
    """draft-ietf-httpapi-ratelimit-headers-11 of all counts, OpenAI's `x-ratelimit-*` of the tightest of each unit."""
    policies: list[str] = []
    items: list[str] = []
    tightest: dict[str, Standing] = {}
    for standing in standings:
        count, grant = standing.what, standing.grant
        policies.append(count.policy)
        items.append(f"{count.item}{grant.remaining};t={math.ceil(grant.reset)}")
        other = tightest.get(count.unit)
        if other is None or _tighter(grant, other.grant):
            tightest[count.unit] = standing
    if "ratelimit" in headers:
        names = {standing.what.name for standing in standings}
        policies = _kept(headers.get("ratelimit-policy", ""), names) + policies
        items = _kept(headers["ratelimit"], names) + items
    headers["ratelimit-policy"] = ", ".join(policies)
    headers["ratelimit"] = ", ".join(items)
    for unit, standing in tightest.items():
        limit, remaining, reset = _NAMES[unit]
        left = standing.grant.remaining
        # Another `rate_limit` may have less left.
        if remaining not in headers or left <= int(headers[remaining]):
            headers[limit] = standing.what.told
            headers[remaining] = str(left)
            headers[reset] = duration(standing.grant.reset)


def _tighter(one: Grant, other: Grant) -> bool:
    return (one.remaining, -one.reset) < (other.remaining, -other.reset)


def _kept(header: str, names: set[str]) -> list[str]:
    """What another `rate_limit` said; what this one said in an earlier run of the same call goes."""
    return [item for item in header.split(", ") if item and item.partition(";")[0].strip('"') not in names]


def duration(seconds: float) -> str:
    """As OpenAI writes it: `12ms`, `1.5s`, `6m0s`, `2h0m3s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{math.ceil(seconds * 1000) / 1000:g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
