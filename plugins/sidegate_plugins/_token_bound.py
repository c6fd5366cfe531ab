"""Tokens: the most that one attempt can take, known before its provider is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from sidegate.contract import Call, Request

_FRAME_TOKENS = 64
"""What a provider may add around messages."""

_TOOLS_TOKENS = 1024
"""What a provider may add where there are tools: Anthropic documents up to some hundreds of tokens of its own."""

_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")

_ENCODER = msgspec.json.Encoder(enc_hook=repr)


def bounded(call: Call, default: int) -> None:
    """Have the request say how much may be answered, where the client did not."""
    request = call.request
    if call.operation != "embeddings" and request.max_tokens is None:
        call.request = replace(request, max_tokens=default + (request.reasoning_tokens or 0))


def most_input(call: Call) -> int:
    """A token is at least a byte of the request. What an image or a file behind a URL comes to is in no byte of it."""
    if call.asked.tokens is not None:
        return call.asked.tokens[0]
    size = len(call.asked.body)
    if call.request_changed is not None:
        size = max(size, len(_ENCODER.encode(call.request)))
    return size + _FRAME_TOKENS + (_TOOLS_TOKENS if call.request.tools else 0)


def most_output(call: Call, default: int) -> int:
    """`max_tokens`, or `default`, for each answer."""
    most = call.request.max_tokens
    if call.asked.tokens is not None:
        return call.asked.tokens[1] if most is None else most
    return max([default if most is None else most, *said(call)]) * _answers(call.operation, call.request)


def said(call: Call) -> Iterator[int]:
    """Every limit that the client's bytes name: of two that differ, a provider may go by the other."""
    for name in _LIMITS:
        if (raw := call.asked.fields.get(name)) is not None:
            yield _number(msgspec.json.decode(raw))


def _answers(operation: str, request: Request) -> int:
    """How many answers are made and paid: OpenAI's `n`, or `best_of` of its legacy completions, for each prompt."""
    if operation == "embeddings":
        return 0
    prompts = len(request.messages[0].content) if operation == "text_completion" and request.messages else 1
    return max(1, request.choices or 1, _number(request.extra.get("best_of"))) * max(1, prompts)


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0
