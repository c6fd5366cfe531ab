"""Integers: a price of a list as `Rates`, exact to the nano-USD."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from msgspec.structs import replace

from sidegate.contract.prices import Rates
from sidegate.prices.table import Price

_NANO = 10**9
_MOST_USD = 100_000
_BASE = -1
"""Where the base stands among the tiers: above it is everything."""


def rates(price: Price, source: str) -> Rates | None:
    """The price in integers; `None` where it cannot price a call: no price of the input, or one that cannot be true."""
    if "input" not in price.kinds or not all(_sane(amount) for kind in price.kinds.values() for _, amount in kind):
        return None
    starts = sorted({above for kind in price.kinds.values() for above, _ in kind} - {_BASE})
    base, *tiers = (_at(price, above, source) for above in (_BASE, *starts))
    return replace(base, tiers=tuple(tiers))


def _at(price: Price, above: int, source: str) -> Rates:
    """What counts for inputs of more than `above` tokens. Embeddings have no output, and so no price of it."""
    own = {kind: _nano(_amount(amounts, above)) for kind, amounts in price.kinds.items()}
    inputs, outputs = own["input"], own.get("output", 0)
    return Rates(
        input=inputs,
        output=outputs,
        cache_read=own.get("cache_read", inputs),
        cache_write=own.get("cache_write", inputs),
        reasoning=own.get("reasoning", outputs),
        audio_input=own.get("audio_input", inputs),
        audio_output=own.get("audio_output", outputs),
        # A thousand requests are priced, and one is counted.
        request=own.get("request", 0) // 1000,
        above=max(above, 0),
        source=source,
        audio_cache_read=own.get("audio_cache_read"),
        image_input=own.get("image_input"),
        image_cache_read=own.get("image_cache_read"),
    )


def _amount(amounts: Sequence[tuple[int, Decimal]], above: int) -> Decimal:
    """The highest tier that begins no later; a kind without tiers has only its base."""
    return [amount for start, amount in sorted(amounts) if start <= above][-1]


def _nano(usd: Decimal) -> int:
    """A half rounded up: some lists hold what a float left of a decimal."""
    return int((usd * _NANO).to_integral_value(ROUND_HALF_UP))


def _sane(usd: Decimal) -> bool:
    return usd.is_finite() and 0 <= usd <= _MOST_USD
