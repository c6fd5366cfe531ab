"""How much of a rate limit is left, as OpenAI's and Anthropic's replies say it in their headers.

Sources: https://platform.openai.com/docs/guides/rate-limits, https://platform.claude.com/docs/en/api/rate-limits. Both
tell limit, rest and reset of requests and of tokens; OpenAI the reset as a duration, Anthropic as a moment. Of the rest
(Anthropic's input and output tokens, priority tiers; OpenAI's limits of a project) the other has no word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache

OPENAI = "x-ratelimit-"
ANTHROPIC = "anthropic-ratelimit-"

MOST = 32
"""Headers of one reply that are passed on."""
LONGEST = 256
"""Characters of a value."""

_UNITS = ("requests", "tokens")
_PREFIXES = {"openai": OPENAI, "anthropic": ANTHROPIC}
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?")
_SECONDS = (86_400, 3600, 60, 1, 0.001)
_LONGEST_SECONDS = 366 * 86_400.0


def told(headers: Mapping[str, str], provider: str, client: str, now: Callable[[], datetime]) -> dict[str, str]:
    """What a provider of the dialect `provider` says of its limits, as a client of `client` knows it: the first words
    of their names. As they are between dialects of one vendor, translated between these two, else nothing."""
    prefix, wanted = prefix_of(provider), prefix_of(client)
    if prefix is None or wanted is None:
        return {}
    found = {name.lower(): headers[name] for name in headers if name[: len(prefix)].lower() == prefix}
    if prefix != wanted and found:
        found = in_anthropics(found, now()) if wanted == ANTHROPIC else in_openais(found, now())
    # There is no end to what a server may send.
    return {name: value for name, value in list(found.items())[:MOST] if len(value) <= LONGEST}


@cache
def prefix_of(dialect: str) -> str | None:
    """What the names begin with in a dialect; `None` where it has none."""
    return _PREFIXES.get(dialect.partition(".")[0])


def in_anthropics(headers: Mapping[str, str], now: datetime) -> dict[str, str]:
    """OpenAI's `x-ratelimit-*` in Anthropic's words; `headers` by lower-case name."""
    said: dict[str, str] = {}
    for unit in _UNITS:
        limit, rest = headers.get(f"{OPENAI}limit-{unit}", ""), headers.get(f"{OPENAI}remaining-{unit}", "")
        if not (_counts(limit) and _counts(rest)):
            continue
        said[f"{ANTHROPIC}{unit}-limit"], said[f"{ANTHROPIC}{unit}-remaining"] = limit, rest
        reset = seconds(headers.get(f"{OPENAI}reset-{unit}", ""))
        if reset is not None:
            moment = now.astimezone(UTC) + timedelta(seconds=math.ceil(reset))
            said[f"{ANTHROPIC}{unit}-reset"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return said


def in_openais(headers: Mapping[str, str], now: datetime) -> dict[str, str]:
    """Anthropic's `anthropic-ratelimit-*` in OpenAI's words; `headers` by lower-case name."""
    said: dict[str, str] = {}
    for unit in _UNITS:
        limit, rest = headers.get(f"{ANTHROPIC}{unit}-limit", ""), headers.get(f"{ANTHROPIC}{unit}-remaining", "")
        if not (_counts(limit) and _counts(rest)):
            continue
        said[f"{OPENAI}limit-{unit}"], said[f"{OPENAI}remaining-{unit}"] = limit, rest
        reset = _until(headers.get(f"{ANTHROPIC}{unit}-reset", ""), now)
        if reset is not None:
            said[f"{OPENAI}reset-{unit}"] = duration(reset)
    return said


def seconds(text: str) -> float | None:
    """Of a duration as OpenAI writes it: `12ms`, `1.5s`, `6m0s`. `None` for anything else, a bare number too, which
    means seconds here and a moment there."""
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        return None
    total = sum(float(number) * size for number, size in zip(found.groups(), _SECONDS, strict=True) if number)
    return total if total <= _LONGEST_SECONDS else None


def duration(length: float) -> str:
    """Seconds as OpenAI writes them."""
    if length < 1:
        return f"{math.ceil(length * 1000)}ms"
    if length < 60:
        return f"{math.ceil(length * 1000) / 1000:g}s"
    minutes, rest = divmod(math.ceil(length), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


def _until(text: str, now: datetime) -> float | None:
    """Seconds until a moment of RFC 3339."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    left = (moment - now).total_seconds()
    return max(0.0, left) if left <= _LONGEST_SECONDS else None


def _counts(text: str) -> bool:
    return 0 < len(text) <= 18 and text.isascii() and text.isdigit()
