"""OpenAI's legacy text completions (`POST /v1/completions`): a prompt is one user message, `choices[].text` its text.

Several prompts in one request are several pieces of text in that message; a prompt of tokens is opaque.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from sidegate.contract.meaning import Content, Message, OpaqueContent, Part, Request, TextContent
from sidegate.wire import openai, openai_request
from sidegate.wire.body import convert, names_of, others
from sidegate.wire.dialect import Envelope, Fields
from sidegate.wire.openai_chat import dialect as openai_chat
from sidegate.wire.openai_completions import reply
from sidegate.wire.openai_request import texts_or_tokens

TOKENS = openai_request.OPAQUE + "tokens"

_NO_WORD = (
    "top_k",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "reasoning_tokens",
    "metadata",
)


class CompletionRequest(Struct):
    """What is understood; other fields are the request's `extra`."""

    model: openai_request.Name
    prompt: str | list[Any]
    stream: bool | None = None
    stream_options: openai_request.StreamOptions | None = None
    max_tokens: openai_request.TokensOrNone | None = None
    temperature: openai_request.Temperature | None = None
    top_p: openai_request.Share | None = None
    stop: str | openai_request.Stops | None = None
    seed: openai_request.Seed | None = None
    frequency_penalty: openai_request.Penalty | None = None
    presence_penalty: openai_request.Penalty | None = None
    n: openai_request.Choices | None = None
    user: str | None = None


_REQUEST = msgspec.json.Decoder(CompletionRequest)
_KNOWN = names_of(CompletionRequest)


class OpenAICompletions(openai.Errors):
    """The `Dialect`."""

    name = "openai.completions"
    operation = "text_completion"
    comments = True
    terminator = openai.DONE
    path = "/completions"

    def read_request(self, fields: Fields) -> Request:
        asked = convert({name: raw for name, raw in fields.items() if name in _KNOWN}, _REQUEST)
        options = asked.stream_options
        return Request(
            model=asked.model,
            messages=(Message("user", _read_prompt(asked.prompt)),),
            stream=bool(asked.stream),
            include_usage=bool(options is not None and options.include_usage),
            max_tokens=asked.max_tokens,
            temperature=asked.temperature,
            top_p=asked.top_p,
            stop=openai_request.stops(asked.stop),
            seed=asked.seed,
            frequency_penalty=asked.frequency_penalty,
            presence_penalty=asked.presence_penalty,
            choices=asked.n,
            user=asked.user,
            extra=others(fields, _KNOWN),
        )

    def write_request(self, request: Request, dropped: list[str]) -> dict[str, Any]:
        """The request as a JSON object. Turns become one prompt, told apart by blank lines."""
        body: dict[str, Any] = {
            "model": request.model,
            "prompt": _write_prompt(request.messages, dropped),
            "stream": request.stream or None,
            "stream_options": {"include_usage": True} if request.stream else None,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop": list(request.stop) or None,
            "seed": request.seed,
            "frequency_penalty": request.frequency_penalty,
            "presence_penalty": request.presence_penalty,
            "n": request.choices,
            "user": request.user,
        }
        lost = [name for name in _NO_WORD if getattr(request, name)]
        dropped.extend(name for name in (*lost, *request.extra) if name not in dropped)
        return {name: value for name, value in body.items() if value is not None}

    def adapt(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        return openai_chat.adapt(fields, model=model, stream=stream)

    def meter(self) -> reply.CompletionsMeter:
        return reply.CompletionsMeter()

    def read_event(self, raw: bytes) -> tuple[Part, ...]:
        return reply.read_event(raw)

    def read_whole(self, raw: bytes) -> tuple[Part, ...]:
        return reply.read_whole(raw)

    def encoder(self, envelope: Envelope) -> reply.CompletionsWriter:
        return reply.CompletionsWriter(envelope)

    def assembler(self, envelope: Envelope) -> reply.CompletionsAssembler:
        return reply.CompletionsAssembler(envelope)


def _read_prompt(prompt: str | list[Any]) -> tuple[Content, ...]:
    prompts = texts_or_tokens(prompt, "prompt")
    return tuple(TextContent(one) if isinstance(one, str) else OpaqueContent(TOKENS, one) for one in prompts)


def _write_prompt(messages: tuple[Message, ...], dropped: list[str]) -> Any:
    """One user turn gives its prompts back; a conversation becomes one text."""
    if len(messages) == 1 and messages[0].role == "user":
        prompts = [_prompt(piece, dropped) for piece in messages[0].content]
        kept = [prompt for prompt in prompts if prompt is not None]
        return kept[0] if len(kept) == 1 else kept
    for message in messages:
        for piece in message.content:
            _prompt(piece, dropped)
    return "\n\n".join(message.text for message in messages if message.text)


def _prompt(piece: Content, dropped: list[str]) -> Any:
    if isinstance(piece, TextContent):
        return piece.text
    if isinstance(piece, OpaqueContent) and piece.kind == TOKENS:
        return list(piece.data)
    name = type(piece).__name__.removesuffix("Content").lower()
    if name not in dropped:
        dropped.append(name)
    return None
