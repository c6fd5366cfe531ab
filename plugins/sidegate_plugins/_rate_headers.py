"""The headers of `rate_limit`: where a caller is, by the IETF draft and by OpenAI's names."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sidegate_plugins._rate_counts import Standing


def tell(headers: dict[str, str], standings: Sequence[Standing]) -> None:
    """draft-ietf-httpapi-ratelimit-headers-11 of all counts, OpenAI's `x-ratelimit-*` of the tightest of each unit."""
    policies = [standing.what.policy for standing in standings]
    items = [_item(standing) for standing in standings]
    if "ratelimit" in headers:
        names = {standing.what.name for standing in standings}
        policies = _kept(headers.get("ratelimit-policy", ""), names) + policies
        items = _kept(headers["ratelimit"], names) + items
    headers["ratelimit-policy"] = ", ".join(policies)
    headers["ratelimit"] = ", ".join(items)
    requests = [one for one in standings if one.what.kind == "requests"]
    _tightest(headers, "requests", requests)
    if len(requests) < len(standings):
        _tightest(headers, "tokens", [one for one in standings if one.what.kind != "requests"])


def _item(standing: Standing) -> str:
    return f'"{standing.what.name}";r={standing.grant.remaining};t={math.ceil(standing.grant.reset)}'


def _kept(header: str, names: set[str]) -> list[str]:
    """What another `rate_limit` said; what this one said in an earlier run of the same call goes."""
    return [item for item in header.split(", ") if item and item.partition(";")[0].strip('"') not in names]


def _tightest(headers: dict[str, str], unit: str, standings: Sequence[Standing]) -> None:
    if not standings:
        return
    grant = min([one.grant for one in standings], key=lambda grant: (grant.remaining, -grant.reset))
    if grant.remaining <= int(headers.get(f"x-ratelimit-remaining-{unit}", grant.remaining)):
        headers[f"x-ratelimit-limit-{unit}"] = str(grant.limit)
        headers[f"x-ratelimit-remaining-{unit}"] = str(grant.remaining)
        headers[f"x-ratelimit-reset-{unit}"] = duration(grant.reset)


def duration(seconds: float) -> str:
    """As OpenAI writes it: `12ms`, `1.5s`, `6m0s`, `2h0m3s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{math.ceil(seconds * 1000) / 1000:g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
