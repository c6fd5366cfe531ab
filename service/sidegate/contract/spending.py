"""Spending: what one attempt has used, whatever its ending. The one place where an estimate is made.

The ledger settles by it and the `cost` plugin tells the client by it, so the two never disagree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from sidegate.contract.meaning import Usage
from sidegate.contract.reply import Attempt
from sidegate.errors import ConnectError, Ending

if TYPE_CHECKING:
    from sidegate.contract.call import Call

NOTHING = Usage(0, 0)
"""Known to be nothing: no provider has worked."""

MAX_TOKENS = 10**9
"""More than any reply has. A provider that reports more, or less than 0, is taken to have reported nothing."""

BYTES_PER_TOKEN = 4
"""Of English text and JSON, about; the estimate rounds up."""

_UNTOLD = Usage()
_NO_COUNTS = (None,) * 7
_UNREACHED = frozenset((ConnectError.code, "connect_timeout"))
_COMPLETE = Ending.COMPLETE


def billed(call: Call, attempt: Attempt) -> tuple[Usage, int | None]:
    """What an attempt has used and cost so far, in nano-USD; `None` where nobody can know the price.

    Once it has ended that is worked out once, and kept: the client, the log and the ledger hear the same.
    Raises what the price raises.
    """
    if attempt.billed and attempt.usage is not None:
        return attempt.usage, attempt.cost
    usage = spent(attempt, call.operation)
    if attempt.ended is None:
        return usage, _cost(call, attempt if usage == attempt.usage else replace(attempt, usage=usage, tags={}))
    attempt.usage = usage
    attempt.cost = _cost(call, attempt)
    attempt.billed = True
    return usage, attempt.cost


def _cost(call: Call, attempt: Attempt) -> int | None:
    if attempt.usage is NOTHING:
        return 0
    return attempt.cost if call.notes.price is None else call.notes.price(attempt)


def spent(attempt: Attempt, operation: str) -> Usage:
    """The tokens of an attempt: as reported, else estimated and marked so, else `None` for what nobody can know.

    - Never sent, never reached, or refused with an HTTP error before any content: nothing. Providers do not bill that.
    - Reported and over: as reported.
    - Reported in part, or cut off: what is missing is estimated from the bytes that went out and came back. A running
      count of a stream that was cut is believed where it is more than the estimate.
    - Sent, and nothing came back, or its provider goes on in the background: the input is estimated and the output
      unknown.

    Embeddings have no output. An attempt still open (`ending` is `None`) is judged by its finish reason.
    """
    reported = sane(attempt.usage)
    if _free(attempt, reported):
        return NOTHING
    found = reported or _UNTOLD
    inputs = _tokens(attempt.input_bytes) if found.input_tokens is None else found.input_tokens
    output = _output(attempt, operation, found.output_tokens)
    if inputs == found.input_tokens and output == found.output_tokens:
        return found
    guessed = inputs != found.input_tokens or (output != found.output_tokens and operation != "embeddings")
    return replace(found, input_tokens=inputs, output_tokens=output, estimated=found.estimated or guessed)


def _output(attempt: Attempt, operation: str, reported: int | None) -> int | None:
    over = attempt.ending is _COMPLETE or attempt.finish is not None
    if operation == "embeddings":
        return reported or 0
    if reported is None:
        if attempt.background:
            return None
        came = attempt.output_bytes > 0 or attempt.committed or over
        return _tokens(attempt.output_bytes) if came else None
    return reported if over else max(reported, _tokens(attempt.output_bytes))


def _free(attempt: Attempt, reported: Usage | None) -> bool:
    if reported is not None or attempt.output_bytes:
        return False
    refused = attempt.status is not None and attempt.status >= 300
    return not attempt.sent or refused or attempt.error in _UNREACHED


def _tokens(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)


def sane(usage: Usage | None) -> Usage | None:
    """The report without counts that cannot be true; `None` where nothing is left of it."""
    if usage is None:
        return None
    counts = (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        usage.audio_input_tokens,
        usage.audio_output_tokens,
    )
    if counts == _NO_COUNTS:
        return None
    for count in counts:
        if count is not None and not 0 <= count <= MAX_TOKENS:
            return _without_nonsense(usage)
    return usage


def _without_nonsense(usage: Usage) -> Usage | None:
    sane = Usage(
        _count(usage.input_tokens),
        _count(usage.output_tokens),
        _count(usage.cache_read_tokens),
        _count(usage.cache_write_tokens),
        _count(usage.reasoning_tokens),
        _count(usage.audio_input_tokens),
        _count(usage.audio_output_tokens),
    )
    return None if sane == Usage() else replace(sane, estimated=usage.estimated)


def _count(count: int | None) -> int | None:
    return count if count is not None and 0 <= count <= MAX_TOKENS else None
