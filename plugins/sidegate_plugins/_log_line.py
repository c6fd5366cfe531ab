"""The line of `log`: what is known of a call that has ended, without what was said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sidegate.contract import NOTHING, Attempt, Call, Reply, Usage, spent


def line_of(call: Call, reply: Reply, now: float) -> dict[str, Any]:
    """The fields in the order they are written. Tokens and cost are of all attempts, as the ledger will have them."""
    served = next((a for a in reversed(call.attempts) if a.committed), call.attempts[-1] if call.attempts else None)
    usages = [spent(attempt, call.operation) for attempt in call.attempts]
    costs = [_cost(call, attempt, usage) for attempt, usage in zip(call.attempts, usages, strict=True)]
    return {
        "call": call.id,
        "route": call.route,
        "operation": call.operation,
        "dialect": call.dialect,
        "delivery": call.delivery,
        "caller": call.caller.name,
        "key_id": call.caller.key_id,
        "team": call.caller.team,
        "end_user": call.end_user,
        "model": call.model,
        "served_model": reply.model or (served.model if served else None),
        "provider": served.provider if served else None,
        "status": reply.status,
        "ending": reply.ending.value,
        "error": reply.error.code if reply.error else None,
        "plugin": reply.error.plugin if reply.error else None,
        "input_tokens": _sum([usage.input_tokens for usage in usages]),
        "output_tokens": _sum([usage.output_tokens for usage in usages]),
        "cached_tokens": _told([usage.cache_read_tokens for usage in usages]),
        "reasoning_tokens": _told([usage.reasoning_tokens for usage in usages]),
        "usage_estimated": any(usage.estimated for usage in usages),
        "cost_nano_usd": _sum(costs),
        "time_to_first_token": _seconds(call.started, call.notes.first_token),
        "duration": _seconds(call.started, now),
        "tokens_per_second": _pace(usages[-1].output_tokens if usages else None, call, now),
        "attempts": [_attempt(attempt, cost, reply, now) for attempt, cost in zip(call.attempts, costs, strict=True)],
        "plugin_seconds": {name: round(seconds, 6) for name, seconds in call.notes.plugin_seconds.items()},
    }


def _attempt(attempt: Attempt, cost: int | None, reply: Reply, now: float) -> dict[str, Any]:
    """A try; one that nobody closed ended when and as the call did."""
    return {
        "provider": attempt.provider,
        "target": attempt.target,
        "status": attempt.status,
        "ending": (attempt.ending or reply.ending).value,
        "error": attempt.error,
        "duration": _seconds(attempt.started, now if attempt.ended is None else attempt.ended),
        "cost_nano_usd": cost,
    }


def _cost(call: Call, attempt: Attempt, usage: Usage) -> int | None:
    """What the ledger will say: it settles by the same usage and price, after all plugins."""
    if usage is NOTHING:
        return 0
    return call.notes.price(replace(attempt, usage=usage)) if call.notes.price else attempt.cost


def _sum(values: list[int | None]) -> int | None:
    """Unknown if one of them is."""
    known = _known(values)
    return sum(known) if len(known) == len(values) else None


def _told(values: list[int | None]) -> int | None:
    """Of the finer kinds of tokens: as far as providers told."""
    known = _known(values)
    return sum(known) if known else None


def _known(values: list[int | None]) -> list[int]:
    return [value for value in values if value is not None]


def _seconds(start: float, end: float | None) -> float | None:
    return None if end is None else round(end - start, 6)


def _pace(tokens: int | None, call: Call, now: float) -> float | None:
    """Output tokens a second: of a stream from its first token on, else over the whole call."""
    first = call.notes.first_token
    start = first if call.delivery == "stream" and first is not None else call.started
    return round(tokens / (now - start), 3) if tokens is not None and now > start else None
