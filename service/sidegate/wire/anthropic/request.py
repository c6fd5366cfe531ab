"""Requests of Anthropic Messages, read: strictly typed, each error naming its field.

Source: https://platform.claude.com/docs/en/api/messages.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from sidegate.contract.meaning import Message, Request, ResponseFormat, Tool
from sidegate.errors import BadRequest
from sidegate.wire.anthropic.content import read_content
from sidegate.wire.body import convert, names_of, others, read_as
from sidegate.wire.dialect import Fields

_Name = Annotated[str, Meta(min_length=1, max_length=512)]
_Tokens = Annotated[int, Meta(ge=0, lt=2**31)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Content = str | list[dict[str, Any]]


class _Message(Struct):
    role: Literal["user", "assistant", "system"]
    content: _Content


class _Tool(Struct):
    """A tool of the client's; one without `input_schema` is Anthropic's own."""

    name: str | None = None
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class _Choice(Struct):
    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(Struct):
    type: str
    budget_tokens: Annotated[int, Meta(ge=1, lt=2**31)] | None = None


class _Format(Struct):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class MessagesRequest(Struct):
    """What is understood; other fields are the request's `extra`."""

    model: _Name
    max_tokens: _Tokens
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    system: _Content | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=8192)] | None = None
    temperature: _Share | None = None
    top_p: _Share | None = None
    top_k: Annotated[int, Meta(ge=0, lt=2**31)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: _Choice | None = None
    metadata: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    output_format: dict[str, Any] | None = None


_DECODER = msgspec.json.Decoder(MessagesRequest)
_KNOWN = names_of(MessagesRequest)


def read_request(fields: Fields) -> Request:
    """The request. Raises `BadRequest` naming the field that is wrong or missing."""
    asked = convert({name: raw for name, raw in fields.items() if name in _KNOWN}, _DECODER)
    extra = others(fields, _KNOWN)
    tools = _tools(asked, extra)
    budget = _thinking(asked, extra)
    effort, response_format = _output(asked, extra)
    user, metadata = _metadata(asked)
    return Request(
        model=asked.model,
        messages=_messages(asked),
        stream=bool(asked.stream),
        include_usage=True,
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        stop=tuple(asked.stop_sequences or ()),
        tools=tools,
        tool_choice=_tool_choice(asked),
        parallel_tool_calls=_parallel(asked.tool_choice),
        response_format=response_format,
        reasoning_effort=effort,
        reasoning_tokens=budget,
        user=user,
        metadata=metadata,
        extra=extra,
    )


def _messages(asked: MessagesRequest) -> tuple[Message, ...]:
    turns = [
        Message(message.role, read_content(message.content, f"messages[{index}].content"))
        for index, message in enumerate(asked.messages)
    ]
    system = read_content(asked.system, "system") if asked.system else ()
    return (Message("system", system), *turns) if system else tuple(turns)


def _tools(asked: MessagesRequest, extra: dict[str, Any]) -> tuple[Tool, ...]:
    """The functions. Anthropic's own tools have no word here: they stay raw in `extra`, so that another dialect names
    `tools` as dropped."""
    found: list[Tool] = []
    own: list[dict[str, Any]] = []
    for index, declared in enumerate(asked.tools or ()):
        place = f"tools[{index}]"
        tool = read_as(declared, _Tool, place)
        if tool.type in (None, "custom") and tool.input_schema is None:
            raise BadRequest(f"{place}.input_schema: missing", param=f"{place}.input_schema")
        if tool.input_schema is None:
            own.append(declared)
            continue
        if not tool.name:
            raise BadRequest(f"{place}.name: missing", param=f"{place}.name")
        found.append(Tool(tool.name, tool.description, tool.input_schema, tool.strict))
    if own:
        extra["tools"] = own
    return tuple(found)


def _tool_choice(asked: MessagesRequest) -> str | None:
    choice = asked.tool_choice
    if choice is None:
        return None
    if choice.type != "tool":
        return "required" if choice.type == "any" else choice.type
    if not choice.name:
        raise BadRequest("tool_choice.name: missing", param="tool_choice.name")
    return f"tool:{choice.name}"


def _parallel(choice: _Choice | None) -> bool | None:
    if choice is None or choice.disable_parallel_tool_use is None:
        return None
    return not choice.disable_parallel_tool_use


def _thinking(asked: MessagesRequest, extra: dict[str, Any]) -> int | None:
    """The budget. `adaptive` has no number, and stays as it is beside the effort that steers it."""
    if asked.thinking is None:
        return None
    thinking = read_as(asked.thinking, _Thinking, "thinking")
    if thinking.type == "enabled":
        if thinking.budget_tokens is None:
            raise BadRequest("thinking.budget_tokens: missing", param="thinking.budget_tokens")
        return thinking.budget_tokens
    if thinking.type != "disabled":
        extra["thinking"] = asked.thinking
    return None


def _output(asked: MessagesRequest, extra: dict[str, Any]) -> tuple[str | None, ResponseFormat | None]:
    """The effort and the format; `output_format` is the format's place of old."""
    config = dict(asked.output_config or {})
    effort = config.pop("effort", None)
    if effort is not None and not isinstance(effort, str):
        raise BadRequest("output_config.effort: Expected `str`", param="output_config.effort")
    asked_format = config.pop("format", None)
    if config:
        extra["output_config"] = config
    if asked_format is not None:
        return effort, _format(asked_format, "output_config.format")
    return effort, _format(asked.output_format, "output_format")


def _format(asked: dict[str, Any] | None, place: str) -> ResponseFormat | None:
    return None if asked is None else ResponseFormat("json_schema", read_as(asked, _Format, place).schema)


def _metadata(asked: MessagesRequest) -> tuple[str | None, dict[str, Any] | None]:
    metadata = dict(asked.metadata or {})
    user = metadata.pop("user_id", None)
    if user is not None and not isinstance(user, str):
        raise BadRequest("metadata.user_id: Expected `str`", param="metadata.user_id")
    return user, metadata or None
