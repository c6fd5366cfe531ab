"""The line of `log`: what is known of a call that has ended, without what was said."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import Any

from sidegate.contract import Attempt, Call, Reply, Usage, billed


def line_of(call: Call, reply: Reply, now: float) -> dict[str, Any]:
    """The fields in the order they are written. Tokens and cost are of all attempts, as the ledger will have them."""
    attempts, notes, error = call.attempts, call.notes, reply.error
    bills, tries = [], []
    for attempt in attempts:
        bill = billed(call, attempt)
        bills.append(bill)
        tries.append(_attempt(attempt, bill[1], reply, now))
    total, cost = bills[0] if len(bills) == 1 else _total(bills)
    served = _served(attempts)
    started, first = call.started, notes.first_token
    line = _asked(call)
    # One by one: of a display of more than 15 entries CPython 3.11 makes a dictionary that grows, and then another.
    line["served_model"] = reply.model or (served.model if served else None)
    line["provider"] = served.provider if served else None
    line["status"] = reply.status
    line["ending"] = reply.ending
    line["error"] = error.code if error else None
    line["plugin"] = error.plugin if error else None
    line["input_tokens"] = total.input_tokens
    line["output_tokens"] = total.output_tokens
    line["cached_tokens"] = total.cache_read_tokens
    line["reasoning_tokens"] = total.reasoning_tokens
    line["usage_estimated"] = total.estimated
    line["cost_nano_usd"] = cost
    line["time_to_first_token"] = None if first is None else _rounded(first - started)
    line["duration"] = _rounded(now - started)
    line["tokens_per_second"] = _pace(bills[-1][0].output_tokens if bills else None, call, now)
    line["attempts"] = tries
    line["plugin_seconds"] = {name: floor(own * 1e6 + 0.5) / 1e6 for name, own in notes.plugin_seconds.items()}
    return line


def _asked(call: Call) -> dict[str, Any]:
    """Who asked for what, and how it is to be delivered."""
    caller = call.caller
    return {
        "call": call.id,
        "trace_id": call.notes.trace_id,
        "route": call.route,
        "operation": call.operation,
        "dialect": call.dialect,
        "delivery": call.delivery,
        "client_retries": _count(call.headers.get("x-stainless-retry-count")),
        "caller": caller.name,
        "key_id": caller.key_id,
        "team": caller.team,
        "end_user": call.end_user,
        "model": call.model,
    }


def _served(attempts: Sequence[Attempt]) -> Attempt | None:
    """The one whose answer went on, else the last."""
    for attempt in reversed(attempts):
        if attempt.committed:
            return attempt
    return attempts[-1] if attempts else None


def _attempt(attempt: Attempt, cost: int | None, reply: Reply, now: float) -> dict[str, Any]:
    """A try; one that nobody closed ended when and as the call did."""
    line: dict[str, Any] = {
        "provider": attempt.provider,
        "target": attempt.target,
        "request_id": attempt.tags.get("request_id"),
        "status": attempt.status,
        "ending": attempt.ending or reply.ending,
        "error": attempt.error,
        "duration": _rounded((now if attempt.ended is None else attempt.ended) - attempt.started),
        "cost_nano_usd": cost,
    }
    if attempt.dropped:
        line["dropped"] = attempt.dropped
    return line


def _total(bills: Sequence[tuple[Usage, int | None]]) -> tuple[Usage, int | None]:
    """Of all attempts: input, output and cost where they are known of each; of the finer kinds, what providers told."""
    usages = [usage for usage, _ in bills]
    total = Usage(
        input_tokens=_sum([usage.input_tokens for usage in usages]),
        output_tokens=_sum([usage.output_tokens for usage in usages]),
        cache_read_tokens=_told([usage.cache_read_tokens for usage in usages]),
        reasoning_tokens=_told([usage.reasoning_tokens for usage in usages]),
        estimated=any(usage.estimated for usage in usages),
    )
    return total, _sum([cost for _, cost in bills])


def _sum(values: list[int | None]) -> int | None:
    """Unknown if one of them is."""
    known = _known(values)
    return sum(known) if len(known) == len(values) else None


def _told(values: list[int | None]) -> int | None:
    known = _known(values)
    return sum(known) if known else None


def _known(values: list[int | None]) -> list[int]:
    return [value for value in values if value is not None]


def _count(text: str | None) -> int:
    """How often the client's SDK has tried before, by its own word; 0 where it says nothing that is a number."""
    return int(text) if text and len(text) <= 4 and text.isascii() and text.isdigit() else 0


def _rounded(seconds: float) -> float:
    """To the microsecond. A fraction of the time that `round` takes, which a line does a dozen times."""
    return floor(seconds * 1e6 + 0.5) / 1e6


def _pace(tokens: int | None, call: Call, now: float) -> float | None:
    """Output tokens a second: of a stream from its first token on, else over the whole call."""
    first = call.notes.first_token
    start = first if call.delivery == "stream" and first is not None else call.started
    return floor(tokens / (now - start) * 1e3 + 0.5) / 1e3 if tokens is not None and now > start else None
