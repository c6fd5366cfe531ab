"""Anthropic's token counts and stop reasons, and ours.

Source: https://platform.claude.com/docs/en/api/messages. Counts on a stream are cumulative: the later ones win.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sidegate.contract.meaning import Usage

if TYPE_CHECKING:
    from sidegate.contract.meaning import Finish, FinishReason

COUNTS = frozenset(
    (
        "input_tokens",
        "output_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "output_tokens_details",
    )
)
"""The keys of a `usage` object that `Usage` has words for."""

_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
}
# An `error` has no stop reason here: null says that the reason is not known, and does not claim a natural end.
_STOP: dict[FinishReason, str | None] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "error": None,
    "other": "end_turn",
}
_MOST = 2**53
"""More tokens than any reply has; larger numbers would not survive a JSON reader that counts in doubles."""


class Counts(Struct):
    """A `usage` object. The values are `Any`, so that a malformed count is unknown and not the end of the reply."""

    input_tokens: Any = None
    output_tokens: Any = None
    cache_creation_input_tokens: Any = None
    cache_read_input_tokens: Any = None
    output_tokens_details: Any = None

    def merge(self, later: Counts) -> Counts:
        """What is known after `later` came, per kind."""
        return Counts(
            _kept(self.input_tokens, later.input_tokens),
            _last(self.output_tokens, later.output_tokens),
            _kept(self.cache_creation_input_tokens, later.cache_creation_input_tokens),
            _kept(self.cache_read_input_tokens, later.cache_read_input_tokens),
            _last(self.output_tokens_details, later.output_tokens_details),
        )

    def without_output(self) -> Counts:
        """The counts of a `message_start`: it says `output_tokens` 1 or so before anything was written, so a stream
        that breaks off must not be billed as one token. The output is unknown until a `message_delta` tells it."""
        return Counts(self.input_tokens, None, self.cache_creation_input_tokens, self.cache_read_input_tokens)

    def usage(self) -> Usage:
        """The same in the gateway's terms, where the input includes what was read from and written to the cache."""
        written = _count(self.cache_creation_input_tokens)
        read = _count(self.cache_read_input_tokens)
        fresh = _count(self.input_tokens)
        # No call has an empty input: compatible servers say 0 in `message_start`, and mean that they tell it later.
        total = None if fresh is None else fresh + (read or 0) + (written or 0) or None
        details = self.output_tokens_details
        thinking = _count(details.get("thinking_tokens")) if isinstance(details, dict) else None
        return Usage(total, _count(self.output_tokens), read, written, thinking)


def write_usage(usage: Usage | None, *, output: bool = True) -> dict[str, Any]:
    """A `usage` object. SDKs require `input_tokens` and `output_tokens`, so what is not known is 0 there; other kinds
    are left out. `output=False` is for `message_start`, which comes before the output."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    read, written = usage.cache_read_tokens, usage.cache_write_tokens
    counts: dict[str, Any] = {"input_tokens": max(0, (usage.input_tokens or 0) - (read or 0) - (written or 0))}
    if written is not None:
        counts["cache_creation_input_tokens"] = written
    if read is not None:
        counts["cache_read_input_tokens"] = read
    counts["output_tokens"] = (usage.output_tokens or 0) if output else 0
    if output and usage.reasoning_tokens is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counts


def read_stop(stop_reason: str) -> FinishReason:
    """Our word for a `stop_reason`: `other` for `pause_turn` and for those of tomorrow."""
    return _FINISH.get(stop_reason, "other")


def write_stop(reason: FinishReason, stop_sequence: str | None) -> str | None:
    """The `stop_reason` for our word."""
    if reason == "stop" and stop_sequence is not None:
        return "stop_sequence"
    return _STOP[reason]


def stop_fields(finish: Finish | None, fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How the message ended, with the fields that `reply` kept: a `stop_reason` among them (`pause_turn`)
    stands, unless another end has been put in its place."""
    stop = {"stop_reason": None, "stop_sequence": None, **fields.get("delta", {})}
    if finish is None:
        return stop
    kept = stop["stop_reason"]
    if kept is None or read_stop(kept) != finish.reason:
        stop["stop_reason"] = write_stop(finish.reason, finish.stop_sequence)
    return {**stop, "stop_sequence": finish.stop_sequence}


def lossy(stop_reason: str) -> bool:
    """Whether the `stop_reason` would come back as another one."""
    return write_stop(read_stop(stop_reason), stop_reason if stop_reason == "stop_sequence" else None) != stop_reason


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST else None


def _last(before: Any, later: Any) -> Any:
    return before if later is None else later


def _kept(before: Any, later: Any) -> Any:
    """Of what goes in. Servers that count it at the beginning alone say 0 at the end, and take nothing back by it."""
    return before if later is None or (later == 0 and before) else later
