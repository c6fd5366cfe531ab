"""Requests of Gemini's `generateContent`, read: strictly typed, each error naming its field.

Source: https://ai.google.dev/api/generate-content. Fields of `generationConfig` without a word here are in `extra` by
their full names, such as `generationConfig.speechConfig`.
"""

from __future__ import annotations

from collections import deque
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from sidegate.contract.meaning import (
    Content,
    Message,
    ReasoningContent,
    Request,
    ResponseFormat,
    TextContent,
    ToolUse,
)
from sidegate.errors import BadRequest
from sidegate.wire.body import convert, names_of, others
from sidegate.wire.dialect import Fields
from sidegate.wire.gemini.content import (
    UNSIGNED,
    FunctionCall,
    FunctionResponse,
    Part,
    read_part,
    read_result,
    standard,
)
from sidegate.wire.gemini.fields import CONFIG, read_as, renamed, several
from sidegate.wire.gemini.schema import json_schema
from sidegate.wire.gemini.tools import read_choice, read_tools
from sidegate.wire.openai_request import Name, Penalty, Seed, Share, Temperature, Tokens
from sidegate.wire.seals import decoded


class _Content(Struct):
    parts: Any = None
    role: Literal["user", "model", "function", "system"] | None = None


class _Thinking(Struct, rename="camel"):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class Config(Struct, rename="camel"):
    """A `generationConfig`."""

    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=0, lt=2**31)] | None = None
    max_output_tokens: Tokens | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=64)] | None = None
    candidate_count: Annotated[int, Meta(ge=1, le=128)] | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    response_mime_type: str | None = None
    response_schema: Any = None
    response_json_schema: Any = None
    thinking_config: Any = None


class GenerateRequest(Struct, rename="camel"):
    """What is understood; other fields are the request's `extra`."""

    model: Name
    contents: Any
    stream: bool | None = None
    system_instruction: Any = None
    tools: Any = None
    tool_config: Any = None
    generation_config: dict[str, Any] | None = None


_DECODER = msgspec.json.Decoder(GenerateRequest)
_KNOWN = names_of(GenerateRequest)
_CONFIG = names_of(Config)


def read_request(fields: Fields) -> Request:
    """The request. Raises `BadRequest` naming the field that is wrong or missing."""
    asked = convert({name: raw for name, raw in fields.items() if name in _KNOWN}, _DECODER)
    extra = others(fields, _KNOWN)
    told = renamed(asked.generation_config or {}, Config)
    config = read_as(told, Config, "generationConfig")
    extra.update({CONFIG + name: value for name, value in told.items() if name not in _CONFIG and value is not None})
    if extra.get(CONFIG + "responseModalities") == ["TEXT"]:
        # What it is without being said, and what some clients always say.
        del extra[CONFIG + "responseModalities"]
    tools = read_tools(asked.tools, extra)
    budget, effort = _thinking(config.thinking_config, extra)
    return Request(
        model=asked.model,
        messages=_messages(asked),
        stream=bool(asked.stream),
        max_tokens=config.max_output_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        stop=tuple(config.stop_sequences or ()),
        seed=config.seed,
        frequency_penalty=config.frequency_penalty,
        presence_penalty=config.presence_penalty,
        choices=config.candidate_count,
        tools=tools,
        tool_choice=read_choice(asked.tool_config, extra),
        response_format=_format(config, extra),
        reasoning_effort=effort,
        reasoning_tokens=budget,
        extra=extra,
    )


def _messages(asked: GenerateRequest) -> tuple[Message, ...]:
    contents = several(asked.contents, "contents")
    if not contents:
        raise BadRequest("contents: Expected `array` of length >= 1", param="contents")
    names = _Names()
    found: list[Message] = []
    if asked.system_instruction is not None:
        found.append(Message("system", _system(asked.system_instruction, names)))
    for index, value in enumerate(contents):
        place = f"contents[{index}]"
        content = read_as(value, _Content, place)
        role: Literal["system", "user", "assistant"] = "user"
        if content.role in ("model", "system"):
            role = "assistant" if content.role == "model" else "system"
        found.append(Message(role, read_parts(content.parts, f"{place}.parts", names)))
    return tuple(found)


def _system(value: Any, names: _Names) -> tuple[Content, ...]:
    if isinstance(value, str):
        return (TextContent(value),)
    content = read_as(value, _Content, "systemInstruction")
    return read_parts(content.parts, "systemInstruction.parts", names)


class _Names:
    """The ids of calls. Where a call has none, it is given one, and the next result of its name answers it."""

    def __init__(self) -> None:
        self._open: dict[str, deque[str]] = {}
        self._count = 0

    def call(self, call: FunctionCall) -> str:
        id = call.id or self._next()
        self._open.setdefault(call.name, deque()).append(id)
        return id

    def answer(self, answer: FunctionResponse) -> str:
        waiting = self._open.get(answer.name)
        if answer.id:
            if waiting and answer.id in waiting:
                waiting.remove(answer.id)
            return answer.id
        return waiting.popleft() if waiting else self._next()

    def _next(self) -> str:
        self._count += 1
        return f"call_{self._count}"


def read_parts(value: Any, place: str, names: _Names) -> tuple[Content, ...]:
    """The content of a turn. Thinking in pieces is one thought, up to the signature that binds it."""
    found: list[Content] = []
    for index, each in enumerate(several(value, place)):
        where = f"{place}[{index}]"
        part, content = read_part(each, where)
        if part.thought:
            _add_thought(found, part)
            continue
        signature = _seal(part)
        if part.function_call is not None:
            if signature is not None:
                found.append(signature)
            call = read_as(part.function_call, FunctionCall, f"{where}.functionCall")
            arguments = msgspec.json.encode(call.args or {}).decode()
            found.append(ToolUse(names.call(call), call.name, arguments))
            continue
        if part.function_response is not None:
            said = read_as(part.function_response, FunctionResponse, f"{where}.functionResponse")
            found.append(read_result(said, names.answer(said), f"{where}.functionResponse"))
        elif content is not None:
            found.append(content)
        if signature is not None:
            found.append(signature)
    return tuple(found)


def _add_thought(found: list[Content], part: Part) -> None:
    sealed = _seal(part) or ReasoningContent()
    text = part.text or ""
    last = found[-1] if found else None
    goes_on = isinstance(last, ReasoningContent) and last.text and last.signature is None and last.redacted is None
    if isinstance(last, ReasoningContent) and goes_on and sealed.redacted is None:
        found[-1] = replace(sealed, text=last.text + text)
    elif text or sealed.vendor:
        found.append(replace(sealed, text=text))


def _seal(part: Part) -> ReasoningContent | None:
    """The signature of a part, by itself."""
    if not part.thought_signature or part.thought_signature == UNSIGNED:
        return None
    vendor, signature, redacted = decoded(standard(part.thought_signature))
    return ReasoningContent("", signature, redacted, vendor)


def _thinking(value: Any, extra: dict[str, Any]) -> tuple[int | None, str | None]:
    """A budget and an effort. What more is said keeps it whole in `extra`: -1 is a budget of the model's own choice."""
    if value is None:
        return None, None
    thinking = read_as(value, _Thinking, "generationConfig.thinkingConfig")
    budget = thinking.thinking_budget
    counted = budget if budget is not None and budget > 0 else None
    if thinking.include_thoughts is not None or (budget is not None and counted is None):
        extra[CONFIG + "thinkingConfig"] = value
    level = thinking.thinking_level
    return counted, level.lower() if level and level != "THINKING_LEVEL_UNSPECIFIED" else None


def _format(config: Config, extra: dict[str, Any]) -> ResponseFormat | None:
    kind = config.response_mime_type
    schema = config.response_json_schema
    if schema is None and config.response_schema is not None:
        schema = json_schema(config.response_schema, "generationConfig.responseSchema")
    if schema is not None and not isinstance(schema, dict):
        raise BadRequest("generationConfig.responseJsonSchema: Expected `object`", param="generationConfig")
    if kind in (None, "text/plain"):
        if schema is not None:
            # Gemini refuses a schema for text; here it is a field that nothing is made of.
            extra[CONFIG + "responseSchema"] = schema
        return None
    if kind != "application/json":
        extra[CONFIG + "responseMimeType"] = kind
        return None
    return ResponseFormat("json_object") if schema is None else ResponseFormat("json_schema", schema)
