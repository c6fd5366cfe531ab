"""Requests of OpenAI's Responses, read: the whole meaning, strictly typed, each error naming its field."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from sidegate.contract.meaning import Message, Request, ResponseFormat, TextContent, Tool
from sidegate.errors import BadRequest
from sidegate.wire import openai_request as shared
from sidegate.wire.body import convert, names_of, others, read_as
from sidegate.wire.dialect import Fields
from sidegate.wire.openai_responses.input import read_input


class _Function(Struct):
    name: shared.Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Kind(Struct):
    type: str


class _Named(Struct):
    type: str
    name: str | None = None


class _Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponsesRequest(Struct):
    """What is understood; other fields are the request's `extra`."""

    model: shared.Name
    input: str | list[dict[str, Any]] | None = None
    instructions: str | list[dict[str, Any]] | None = None
    stream: bool | None = None
    max_output_tokens: shared.Tokens | None = None
    temperature: shared.Temperature | None = None
    top_p: shared.Share | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None


_DECODER = msgspec.json.Decoder(ResponsesRequest)
_KNOWN = names_of(ResponsesRequest)


def read_request(fields: Fields) -> Request:
    """The request. Raises `BadRequest` naming the field that is wrong or missing."""
    asked = convert({name: raw for name, raw in fields.items() if name in _KNOWN}, _DECODER)
    extra = {name: value for name, value in others(fields, _KNOWN).items() if value is not None}
    tools = _tools(asked, extra)
    return Request(
        model=asked.model,
        messages=_messages(asked),
        stream=bool(asked.stream),
        include_usage=True,
        max_tokens=asked.max_output_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        tools=tools,
        tool_choice=_tool_choice(asked, extra),
        parallel_tool_calls=asked.parallel_tool_calls,
        response_format=_response_format(asked, extra),
        reasoning_effort=_effort(asked, extra),
        user=asked.user,
        metadata=asked.metadata,
        extra=extra,
    )


def _messages(asked: ResponsesRequest) -> tuple[Message, ...]:
    given = asked.input
    if isinstance(given, str):
        turns: tuple[Message, ...] = (Message("user", (TextContent(given),)),)
    else:
        turns = read_input(given or [])
    if not asked.instructions:
        return turns
    if isinstance(asked.instructions, str):
        return (Message("system", (TextContent(asked.instructions),)), *turns)
    return (*read_input(asked.instructions), *turns)


def _tools(asked: ResponsesRequest, extra: dict[str, Any]) -> tuple[Tool, ...]:
    """The functions. Tools of the provider's own have no word here: they stay raw in `extra`, so that another dialect
    names `tools` as dropped."""
    found: list[Tool] = []
    own: list[dict[str, Any]] = []
    for index, declared in enumerate(asked.tools or ()):
        place = f"tools[{index}]"
        if read_as(declared, _Kind, place).type != "function":
            own.append(declared)
            continue
        tool = read_as(declared, _Function, place)
        found.append(Tool(tool.name, tool.description, tool.parameters, tool.strict))
    if own:
        extra["tools"] = own
    return tuple(found)


def _tool_choice(asked: ResponsesRequest, extra: dict[str, Any]) -> str | None:
    choice = asked.tool_choice
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice not in ("auto", "none", "required"):
            raise BadRequest("tool_choice: Expected auto, none or required.", param="tool_choice")
        return choice
    named = read_as(choice, _Named, "tool_choice")
    if named.type != "function":
        extra["tool_choice"] = choice
        return None
    if not named.name:
        raise BadRequest("tool_choice.name: missing", param="tool_choice.name")
    return f"tool:{named.name}"


def _response_format(asked: ResponsesRequest, extra: dict[str, Any]) -> ResponseFormat | None:
    text = dict(asked.text or {})
    asked_format = text.pop("format", None)
    if text:
        extra["text"] = text
    if asked_format is None:
        return None
    format = read_as(asked_format, _Format, "text.format")
    if format.type != "json_schema":
        return ResponseFormat(format.type)
    if format.schema is None:
        raise BadRequest("text.format.schema: missing", param="text.format.schema")
    return ResponseFormat("json_schema", format.schema, format.name, format.strict)


def _effort(asked: ResponsesRequest, extra: dict[str, Any]) -> str | None:
    reasoning = dict(asked.reasoning or {})
    effort = reasoning.pop("effort", None)
    kept = {name: value for name, value in reasoning.items() if value is not None}
    if kept:
        extra["reasoning"] = kept
    if effort is not None and not isinstance(effort, str):
        raise BadRequest("reasoning.effort: Expected `str`", param="reasoning.effort")
    return effort
