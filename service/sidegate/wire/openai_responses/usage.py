"""What OpenAI's Responses says of tokens and of how a reply ended, and ours.

Source: https://platform.openai.com/docs/api-reference/responses/object.
"""

from __future__ import annotations

from typing import Any

from sidegate.contract.meaning import FinishReason, Usage

KNOWN = frozenset(
    ("input_tokens", "input_tokens_details", "output_tokens", "output_tokens_details", "total_tokens"),
)
"""The keys of a `usage` object that `Usage` has words for."""

_MOST = 2**53

_INCOMPLETE: dict[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_ENDED: dict[FinishReason, tuple[str, dict[str, str] | None]] = {
    "length": ("incomplete", {"reason": "max_output_tokens"}),
    "content_filter": ("incomplete", {"reason": "content_filter"}),
    "error": ("failed", None),
}


def read_usage(usage: Any) -> Usage | None:
    """Usage from a `usage` object; `None` where nothing can be read. What is no count is unknown."""
    if not isinstance(usage, dict):
        return None
    given, made = _object(usage.get("input_tokens_details")), _object(usage.get("output_tokens_details"))
    found = Usage(
        _count(usage.get("input_tokens")),
        _count(usage.get("output_tokens")),
        _count(given.get("cached_tokens")),
        _count(given.get("cache_write_tokens")),
        _count(made.get("reasoning_tokens")),
        _count(given.get("audio_tokens")),
        _count(made.get("audio_tokens")),
    )
    return None if found == Usage() else found


def write_usage(usage: Usage | None) -> dict[str, Any] | None:
    """The `usage` object; `None` where either side is unknown. SDKs demand cached and reasoning ones: 0 if unknown."""
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    given = {"cached_tokens": usage.cache_read_tokens or 0}
    made = {"reasoning_tokens": usage.reasoning_tokens or 0}
    known = _known(cache_write_tokens=usage.cache_write_tokens, audio_tokens=usage.audio_input_tokens)
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": given | known,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": made | _known(audio_tokens=usage.audio_output_tokens),
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def read_finish(status: Any, details: Any, *, called: bool = False, refused: bool = False) -> FinishReason:
    """Our word for the end of a response: Responses does not tell that a tool was called, nor that it was declined."""
    if status == "incomplete":
        reason = details.get("reason") if isinstance(details, dict) else None
        return _INCOMPLETE.get(reason, "other") if isinstance(reason, str) else "other"
    if status not in (None, "completed"):
        return "other"
    if called:
        return "tool_calls"
    return "refusal" if refused else "stop"


def write_finish(reason: FinishReason) -> tuple[str, dict[str, str] | None]:
    """The `status` and the `incomplete_details` for our word."""
    return _ENDED.get(reason, ("completed", None))


def _known(**counts: int | None) -> dict[str, int]:
    return {kind: count for kind, count in counts.items() if count is not None}


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < _MOST else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
