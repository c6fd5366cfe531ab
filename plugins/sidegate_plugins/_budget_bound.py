"""Bounds: the most that one attempt can cost, known before its provider is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from sidegate.contract import Call, Rates, Request

_MILLION = 10**6
_MOST = 10**17
"""Nano-USD: beyond any limit, and sums of it stay within the ledger's integers."""

_FRAME_TOKENS = 64
"""What a provider may add around messages."""

_TOOLS_TOKENS = 1024
"""What a provider may add where there are tools: Anthropic documents up to some hundreds of tokens of its own."""

_ENCODER = msgspec.json.Encoder(enc_hook=repr)


def bounded(call: Call, default: int) -> None:
    """Have the request say how much may be answered, where the client did not."""
    request = call.request
    if call.operation != "embeddings" and not request.max_tokens:
        call.request = replace(request, max_tokens=default + (request.reasoning_tokens or 0))


def bound(call: Call, rates: Rates, default: int) -> int:
    """Nano-USD, rounded up. A token is at least a byte of the request; of the output there is `max_tokens`, or
    `default`, for each answer. What an image or a file behind a URL comes to is in no byte of the request."""
    request = call.request
    size = len(call.asked.body)
    if call.request_changed is not None:
        size = max(size, len(_ENCODER.encode(request)))
    inputs = size + _FRAME_TOKENS + (_TOOLS_TOKENS if request.tools else 0)
    outputs = max([request.max_tokens or default, *_said(call)]) * _answers(call.operation, request)
    tiers = [rates, *(tier for tier in rates.tiers if inputs > tier.above)]
    dearest = max(inputs * _input(tier) + outputs * _output(tier) for tier in tiers)
    return min(_MOST, -(-dearest // _MILLION) + max(tier.request for tier in tiers))


def _said(call: Call) -> Iterator[int]:
    """Every limit that the client's bytes name: of two that differ, a provider may go by the other."""
    for name in ("max_tokens", "max_completion_tokens"):
        if (raw := call.asked.fields.get(name)) is not None:
            yield _number(msgspec.json.decode(raw))


def _input(rates: Rates) -> int:
    return max(rates.input, rates.cache_read, rates.cache_write, rates.audio_input)


def _output(rates: Rates) -> int:
    return max(rates.output, rates.reasoning, rates.audio_output)


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
