"""Settlement: a call that has ended becomes rows. One code path for all dialects, deliveries and endings."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import TypeVar

from msgspec.structs import replace

from sidegate.contract.call import Call
from sidegate.contract.meaning import Usage
from sidegate.contract.reply import Attempt, Reply
from sidegate.contract.spending import billed
from sidegate.errors import Ending
from sidegate.ledger.rows import AttemptRow, CallRow, Settled, State

MAX_TEXT = 256
"""Characters kept of what a client or a provider may choose freely."""

RATES = "rates"
"""The key in `Attempt.tags` under which the price's rates are kept, as JSON."""

IN_FLIGHT = "in_flight"
"""The ending of what is reserved and not settled: none yet."""

_UNTOLD = Usage()
_WORDS = {ending: ending.value for ending in Ending}
"""Looked up here: `value` of an enumeration is a property of Python's, and takes ten times as many steps."""

Row = TypeVar("Row", CallRow, AttemptRow)

log = logging.getLogger("sidegate.ledger")


def settle(call: Call, reply: Reply, seconds: float, now: datetime | None = None) -> Settled:
    """What to record of a call that ended with `reply` after `seconds`. Sets `usage` and `cost` of its attempts.

    A call that opened no attempt (a list of models, a refusal by a guard) has reached no provider. So it has spent
    nothing, and that is known: 0 tokens, cost 0. Otherwise the cost is the sum of its attempts' costs, and `None` where
    one of them is unknown.
    """
    attempts = call.attempts
    for attempt in attempts:
        _close(attempt, reply, call.started + seconds)
        if not attempt.billed:
            _bill(call, attempt)
    return _call_row(call, reply, seconds, now), tuple([_attempt_row(call, attempt) for attempt in attempts])


def opened(call: Call, attempt: Attempt) -> Settled:
    """What to record of a call when it opens an attempt, before its provider is reached: nothing is known yet."""
    return replace(_begun(call), provider=attempt.provider, state="reserved"), (_tried(call, attempt),)


def _bill(call: Call, attempt: Attempt) -> None:
    try:
        billed(call, attempt)
    except Exception:
        # The price is a plugin's, and a fault of it must not cost the record of the call.
        log.exception("call %s could not be priced", call.id)
        attempt.cost = None


def _close(attempt: Attempt, reply: Reply, ended: float) -> None:
    if attempt.ending is None:
        # Not ended by the router although the call is over: whatever the call's ending, this attempt is not complete.
        attempt.ending = reply.ending if reply.ending is not Ending.COMPLETE else Ending.CANCELLED
    if attempt.ended is None:
        attempt.ended = ended


def _begun(call: Call) -> CallRow:
    """What is known of a call when it begins."""
    caller = call.caller
    return CallRow(
        id=call.id,
        route=call.route,
        operation=call.operation,
        dialect=call.dialect,
        delivery=call.delivery,
        caller=_text(caller.name),
        key_id=caller.key_id and _text(caller.key_id),
        team=caller.team and _text(caller.team),
        tags=tuple(map(_text, caller.tags)) if caller.tags else (),
        end_user=call.end_user and _text(call.end_user),
        model_asked=_text(call.model),
        status=0,
        ending=IN_FLIGHT,
        started_at=call.started_at,
        duration=0.0,
    )


def _tried(call: Call, attempt: Attempt) -> AttemptRow:
    """What is known of an attempt when it is opened."""
    return AttemptRow(
        call_id=call.id,
        number=attempt.number,
        provider=attempt.provider,
        target=_text(attempt.target),
        ending=IN_FLIGHT,
        started_at=attempt.started_at,
        duration=0.0,
    )


def _call_row(call: Call, reply: Reply, seconds: float, now: datetime | None) -> CallRow:
    attempts, error, first_token = call.attempts, reply.error, call.notes.first_token
    last = attempts[-1] if attempts else None
    served = reply.model or (last.model if last else None)
    usage, cost = _total(attempts)
    return replace(
        _counted(_begun(call), usage),
        model_served=served and _text(served),
        provider=last.provider if last else None,
        status=reply.status,
        ending=_WORDS[reply.ending],
        error=None if error is None else error.code and _text(error.code),
        plugin=None if error is None else error.plugin and _text(error.plugin),
        cost_nano_usd=cost,
        state=_state(attempts),
        first_token=None if first_token is None else max(0.0, first_token - call.started),
        duration=seconds,
        settled_at=now,
    )


def _attempt_row(call: Call, attempt: Attempt) -> AttemptRow:
    started, first_token = attempt.started, attempt.first_token
    return replace(
        _counted(_tried(call, attempt), attempt.usage or _UNTOLD),
        model=attempt.model and _text(attempt.model),
        provider_id=attempt.provider_id and _text(attempt.provider_id),
        status=attempt.status,
        ending=_WORDS[attempt.ending or Ending.FAILED],
        error=attempt.error and _text(attempt.error),
        finish=attempt.finish,
        committed=attempt.committed,
        rates=attempt.tags.get(RATES),
        cost_nano_usd=attempt.cost,
        first_token=None if first_token is None else max(0.0, first_token - started),
        duration=max(0.0, (attempt.ended or started) - started),
    )


def _counted(row: Row, usage: Usage) -> Row:
    """With the tokens. A row is made in pieces: Python makes a dictionary of more than 15 keywords, which costs twice
    as much as three calls with fewer."""
    return replace(
        row,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        audio_input_tokens=usage.audio_input_tokens,
        audio_output_tokens=usage.audio_output_tokens,
        estimated=usage.estimated,
    )


def _state(attempts: list[Attempt]) -> State:
    for attempt in attempts:
        if attempt.usage is None or not attempt.usage.known:
            return "unknown"
    return "settled"


def _total(attempts: list[Attempt]) -> tuple[Usage, int | None]:
    """Tokens and cost. Input and output are known only where they are known of all; of the finer kinds, what providers
    told."""
    if len(attempts) == 1:
        return attempts[0].usage or _UNTOLD, attempts[0].cost
    known = [attempt.usage or _UNTOLD for attempt in attempts]
    usage = Usage(
        _sum(usage.input_tokens for usage in known),
        _sum(usage.output_tokens for usage in known),
        _told(usage.cache_read_tokens for usage in known),
        _told(usage.cache_write_tokens for usage in known),
        _told(usage.reasoning_tokens for usage in known),
        _told(usage.audio_input_tokens for usage in known),
        _told(usage.audio_output_tokens for usage in known),
        any(usage.estimated for usage in known),
    )
    return usage, _sum(attempt.cost for attempt in attempts)


def _sum(values: Iterable[int | None]) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _told(values: Iterable[int | None]) -> int | None:
    told = [value for value in values if value is not None]
    return sum(told) if told else None


def _text(value: str) -> str:
    """Bounded, and fit for every database: header values may hold surrogates, which none takes, and JSON a NUL, which
    PostgreSQL does not."""
    if value.isascii() and "\0" not in value and len(value) <= MAX_TEXT:
        return value
    return value[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
