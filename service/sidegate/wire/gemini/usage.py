"""Gemini's token counts and finish reasons, and ours.

Source: https://ai.google.dev/api/generate-content#UsageMetadata. On a stream each event brings running totals, so the
later ones win. Thinking stands beside the candidates' tokens, and what tools read beside the prompt's.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from sidegate.contract.meaning import FinishReason, Usage

COUNTS = frozenset(
    ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "cachedContentTokenCount", "totalTokenCount")
)
"""The keys of a `usageMetadata` that `Usage` has words for, whatever else is told."""

_AUDIO = ("AUDIO", 4)
_MOST = 2**53

_FINISH: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MALFORMED_FUNCTION_CALL": "error",
    "MALFORMED_RESPONSE": "error",
    "UNEXPECTED_TOOL_CALL": "error",
    "TOO_MANY_TOOL_CALLS": "error",
    "MISSING_THOUGHT_SIGNATURE": "error",
}
# `enum-encoding=int`; beyond these, Gemini's and Vertex AI's numbers differ.
_NUMBERS = {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER"}
_WRITTEN: dict[FinishReason, str] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
    "error": "OTHER",
    "other": "OTHER",
}


class Counts(Struct, gc=False, rename="camel"):
    """A `usageMetadata`. The values are `Any`, so that a malformed count is unknown and not the end of the reply."""

    prompt_token_count: Any = None
    candidates_token_count: Any = None
    total_token_count: Any = None
    thoughts_token_count: Any = None
    cached_content_token_count: Any = None
    tool_use_prompt_token_count: Any = None
    prompt_tokens_details: Raw = Raw(b"")
    candidates_tokens_details: Raw = Raw(b"")

    def usage(self, *, over: bool) -> Usage | None:
        """The same in the gateway's terms; `over` where the reply has finished: a count that is still left out is 0
        where the total leaves no room for it, while before it may only not have been told yet."""
        prompt, tools = _count(self.prompt_token_count), _count(self.tool_use_prompt_token_count)
        input_tokens = None if prompt is None else prompt + (tools or 0)
        said, thought = _count(self.candidates_token_count), _count(self.thoughts_token_count)
        output = None if said is None and thought is None else (said or 0) + (thought or 0)
        if output is None and over and input_tokens is not None and _count(self.total_token_count) == input_tokens:
            output = 0
        found = Usage(
            input_tokens,
            output,
            _count(self.cached_content_token_count),
            None,
            thought,
            _audio(self.prompt_tokens_details),
            _audio(self.candidates_tokens_details),
        )
        return None if found == _NOTHING else found


_NOTHING = Usage()


def write_usage(usage: Usage) -> dict[str, Any]:
    """A `usageMetadata` object: what is not known is left out."""
    counts: dict[str, Any] = {"promptTokenCount": usage.input_tokens}
    output, thoughts = usage.output_tokens, usage.reasoning_tokens
    if output is not None:
        counts["candidatesTokenCount"] = max(0, output - (thoughts or 0))
    if usage.input_tokens is not None:
        counts["totalTokenCount"] = usage.input_tokens + (output or 0)
    counts["cachedContentTokenCount"] = usage.cache_read_tokens
    counts["thoughtsTokenCount"] = thoughts
    counts["promptTokensDetails"] = _details(usage.audio_input_tokens, usage.input_tokens)
    counts["candidatesTokensDetails"] = _details(usage.audio_output_tokens, counts.get("candidatesTokenCount"))
    return {name: value for name, value in counts.items() if value is not None}


def finish_name(reason: Any) -> str | None:
    """A `finishReason` as a word; `None` where there is none yet."""
    if isinstance(reason, str):
        return reason if reason and reason != "FINISH_REASON_UNSPECIFIED" else None
    return _NUMBERS.get(reason, "OTHER") if type(reason) is int and reason else None


def read_finish(name: str, *, called: bool) -> FinishReason:
    """Our word for a finish. Gemini stops with `STOP` for a function call too: `called` is whether there was one."""
    reason = _FINISH.get(name, "other")
    return "tool_calls" if called and reason == "stop" else reason


def write_finish(reason: FinishReason) -> str:
    return _WRITTEN[reason]


def lossy(name: str) -> bool:
    """Whether the finish would come back as another one."""
    return write_finish(read_finish(name, called=False)) != name


def _details(audio: int | None, whole: int | None) -> list[dict[str, Any]] | None:
    if audio is None:
        return None
    text = [] if whole is None else [{"modality": "TEXT", "tokenCount": max(0, whole - audio)}]
    return [*text, {"modality": "AUDIO", "tokenCount": audio}]


def _audio(details: Raw) -> int | None:
    """The tokens of speech. Nearly no event has any, so that the details are not decoded."""
    raw = bytes(details)
    if raw.find(b"AUDIO") < 0 and raw.find(b":4") < 0 and raw.find(b": 4") < 0:
        return None
    told = msgspec.json.decode(raw)
    counts = [
        _count(one.get("tokenCount"))
        for one in (told if isinstance(told, list) else ())
        if isinstance(one, dict) and one.get("modality") in _AUDIO
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MOST else None
