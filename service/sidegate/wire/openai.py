"""What OpenAI's dialects share: errors, usage, finish reasons, the measure of a stream.

Sources: the OpenAI API reference, and recorded traffic of Azure, DeepSeek, Groq, Mistral, OpenRouter and xAI, which
speak the same format with differences of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, MsgspecError, Struct

from sidegate.contract.meaning import Citation, FinishReason, Usage
from sidegate.errors import ProviderError, ReplyError, SidegateError
from sidegate.wire import faults, sse
from sidegate.wire.citing import Placed
from sidegate.wire.dialect import InBody

DONE = b"data: [DONE]\n\n"
DONE_DATA = b"[DONE]"

ENCODER = msgspec.json.Encoder()

TOKENS_LIMIT = 2**53

Count: TypeAlias = Annotated[int, Meta(ge=0, lt=TOKENS_LIMIT)] | None


class _OfPrompt(Struct, gc=False):
    cached_tokens: Count = None
    cache_write_tokens: Count = None
    audio_tokens: Count = None


class _OfCompletion(Struct, gc=False):
    reasoning_tokens: Count = None
    audio_tokens: Count = None


class Counted(Struct, gc=False):
    """A `usage` object whose counts are counts, as nearly every one is."""

    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: _OfPrompt | None = None
    completion_tokens_details: _OfCompletion | None = None
    prompt_cache_hit_tokens: Count = None
    """DeepSeek's and Mistral's word for those of the cache."""
    num_cached_tokens: Count = None


_NOTHING = Usage()
_OF_PROMPT = _OfPrompt()
_OF_COMPLETION = _OfCompletion()

_READ_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "refusal",
    "error": "error",
}

# SDKs check the words: what OpenAI has no word for becomes the nearest one it has. `error` is OpenRouter's own.
_WRITE_FINISH: dict[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "error": "error",
    "other": "stop",
}


def read_finish(reason: Any) -> FinishReason | None:
    """A finish reason, `other` for an unknown one, `None` where there is none."""
    if reason is None or reason == "":
        return None
    return _READ_FINISH.get(reason, "other") if isinstance(reason, str) else "other"


def write_finish(reason: FinishReason) -> str:
    return _WRITE_FINISH[reason]


def read_usage(usage: Any, x_groq: Any = None) -> Usage | None:
    """Usage from a `usage` object, or from Groq's `x_groq.usage`; `None` where nothing can be read.

    What is no count is unknown, so that a wrong report is estimated and not believed.
    """
    if type(usage) is Counted:
        return _counted(usage)
    if not isinstance(usage, dict):
        usage = x_groq.get("usage") if isinstance(x_groq, dict) else None
        if not isinstance(usage, dict):
            return None
    try:
        return _counted(msgspec.convert(usage, Counted))
    except MsgspecError:
        return _read_one_by_one(usage)


def _counted(usage: Counted) -> Usage | None:
    prompt = usage.prompt_tokens_details or _OF_PROMPT
    completion = usage.completion_tokens_details or _OF_COMPLETION
    cached = prompt.cached_tokens
    if cached is None:
        cached = usage.prompt_cache_hit_tokens
        if cached is None:
            cached = usage.num_cached_tokens
    found = Usage(
        usage.prompt_tokens,
        _output(usage.completion_tokens, completion.reasoning_tokens, usage.prompt_tokens, usage.total_tokens),
        cached,
        prompt.cache_write_tokens,
        completion.reasoning_tokens,
        prompt.audio_tokens,
        completion.audio_tokens,
    )
    return None if found == _NOTHING else found


def _read_one_by_one(usage: dict[str, Any]) -> Usage | None:
    """Where something in it is no count, or no object."""
    prompt = _object(usage.get("prompt_tokens_details"))
    completion = _object(usage.get("completion_tokens_details"))
    cached = prompt.get("cached_tokens")
    if cached is None:  # DeepSeek and Mistral tell it at the top.
        cached = usage.get("prompt_cache_hit_tokens", usage.get("num_cached_tokens"))
    asked, reasoning = _count(usage.get("prompt_tokens")), _count(completion.get("reasoning_tokens"))
    found = Usage(
        asked,
        _output(_count(usage.get("completion_tokens")), reasoning, asked, usage.get("total_tokens")),
        _count(cached),
        _count(prompt.get("cache_write_tokens")),
        reasoning,
        _count(prompt.get("audio_tokens")),
        _count(completion.get("audio_tokens")),
    )
    return None if found == _NOTHING else found


def write_usage(usage: Usage) -> dict[str, Any] | None:
    """The `usage` object; `None` where either side is unknown, since SDKs demand both."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        **_details(
            "prompt_tokens_details",
            cached_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            audio_tokens=usage.audio_input_tokens,
        ),
        **_details(
            "completion_tokens_details",
            reasoning_tokens=usage.reasoning_tokens,
            audio_tokens=usage.audio_output_tokens,
        ),
    }


def read_citation(told: dict[str, Any], choice: int, block: int, origin: str, data: Any) -> Citation:
    """From a `url_citation`; `data` is the whole annotation."""
    url, title = told.get("url"), told.get("title", told.get("filename"))
    start, end = told.get("start_index"), told.get("end_index")
    placed = type(start) is int and type(end) is int and 0 <= start <= end
    return Citation(
        url=url if isinstance(url, str) else None,
        title=title if isinstance(title, str) else None,
        start=start if placed else None,
        end=end if placed else None,
        choice=choice,
        block=block,
        origin=origin,
        data=data,
    )


def write_citation(placed: Placed) -> dict[str, Any] | None:
    """A `url_citation`; `None` for what has no address, as documents that were sent along."""
    citation, start, end = placed
    if citation.url is None:
        return None
    title = citation.title or citation.url
    return {"start_index": start, "end_index": end, "title": title, "url": citation.url}


def merged(before: Usage | None, later: Usage) -> Usage:
    return later if before is None else before.merge(later)


def text_size(text: str) -> int:
    """UTF-8 bytes of `text`."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def joined(value: Any) -> str:
    """The text of a string, or of a list of text pieces, as Mistral's thinking is."""
    if isinstance(value, str):
        return value
    texts = [piece.get("text") for piece in value if isinstance(piece, dict)] if isinstance(value, list) else []
    return "".join(text for text in texts if isinstance(text, str))


def bad_event(error: Exception | None = None) -> ReplyError:
    """For bytes that are no event, or no body, of the dialect."""
    failure = ReplyError("The provider sent something that is not a reply of its dialect.")
    failure.__cause__ = error
    return failure


def failed(error: Any, raw: bytes) -> ProviderError:
    """For an `error` inside a 200: by the status or the words in it. `raw` is the JSON around it."""
    return faults.fault_error(faults.error_value(error) if isinstance(error, dict) else faults.error_object(raw))


def write_event(payload: Any) -> bytes:
    return b"data: " + ENCODER.encode(payload) + b"\n\n"


class Errors(InBody):
    """The error half of the dialects; requests are bodies."""

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        fault = faults.error_object(body)
        return faults.provider_error(
            status, headers, message=fault.message, code=fault.code, type=fault.type, param=fault.param
        )

    def write_error(self, error: SidegateError, request_id: str) -> bytes:
        return ENCODER.encode(_error(error))

    def write_error_event(self, error: SidegateError, request_id: str) -> bytes:
        return sse.frame(ENCODER.encode(_error(error)))


def _error(error: SidegateError) -> dict[str, Any]:
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return {"error": {**told, "details": error.details} if error.details else told}


def _output(output: int | None, reasoning: int | None, prompt: int | None, total: Any) -> int | None:
    """Output with its reasoning. xAI counts reasoning apart, and shows it by its total."""
    if output is None or not reasoning or prompt is None:
        return output
    return output + reasoning if prompt + output + reasoning == total else output


def _count(value: Any) -> int | None:
    """A count of tokens, if it is one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < TOKENS_LIMIT else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _details(name: str, **counts: int | None) -> dict[str, dict[str, int]]:
    known = {kind: count for kind, count in counts.items() if count is not None}
    return {name: known} if known else {}
