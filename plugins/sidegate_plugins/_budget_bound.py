"""Bounds: the most that one attempt can cost, known before its provider is asked."""

from __future__ import annotations

from sidegate.contract import Call, Rates
from sidegate_plugins._token_bound import bounded, most_input, most_output

__all__ = ["bound", "bounded"]

_MILLION = 10**6
_MOST = 10**17
"""Nano-USD: beyond any limit, and sums of it stay within the ledger's integers."""


def bound(call: Call, rates: Rates, default: int) -> int:
    """Nano-USD, rounded up, of the most tokens it can take; `default` output where the request does not say."""
    inputs, outputs = most_input(call), most_output(call, default)
    tiers = [rates, *(tier for tier in rates.tiers if inputs > tier.above)]
    dearest = max(inputs * _input(tier) + outputs * _output(tier) for tier in tiers)
    return min(_MOST, -(-dearest // _MILLION) + max(tier.request for tier in tiers))


def _input(rates: Rates) -> int:
    finer = (rates.audio_cache_read or 0, rates.image_input or 0, rates.image_cache_read or 0)
    return max(rates.input, rates.cache_read, rates.cache_write, rates.audio_input, *finer)


def _output(rates: Rates) -> int:
    return max(rates.output, rates.reasoning, rates.audio_output)
