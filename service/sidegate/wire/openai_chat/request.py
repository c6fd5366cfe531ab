"""Chat Completions requests, read: the whole meaning, strictly typed, each error naming its field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from sidegate.contract.meaning import (
    Content,
    FileContent,
    ImageContent,
    Message,
    OpaqueContent,
    ReasoningContent,
    Request,
    ResponseFormat,
    TextContent,
    Tool,
    ToolResult,
    ToolUse,
)
from sidegate.errors import BadRequest
from sidegate.wire import openai_request as shared
from sidegate.wire.body import convert, names_of, others
from sidegate.wire.dialect import Fields
from sidegate.wire.openai_chat.details import read_details
from sidegate.wire.seals import GEMINI


class _Function(Struct):
    name: str
    arguments: str


class _ToolCall(Struct, omit_defaults=True):
    id: str
    type: str | None = None
    function: _Function | None = None
    custom: dict[str, Any] | None = None


class _Message(Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: _Function | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None


class _Declared(Struct):
    name: shared.Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(Struct):
    type: str = "function"
    function: _Declared | None = None


class _Named(Struct):
    name: shared.Name


class _Choice(Struct):
    function: _Named | None = None


class _Schema(Struct):
    name: str | None = None
    strict: bool | None = None
    schema: dict[str, Any] | None = None


class _Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class ChatRequest(Struct):
    """What is understood; other fields are the request's `extra`."""

    model: shared.Name
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: shared.StreamOptions | None = None
    max_tokens: shared.Tokens | None = None
    max_completion_tokens: shared.Tokens | None = None
    temperature: shared.Temperature | None = None
    top_p: shared.Share | None = None
    stop: str | shared.Stops | None = None
    seed: shared.Seed | None = None
    frequency_penalty: shared.Penalty | None = None
    presence_penalty: shared.Penalty | None = None
    n: shared.Choices | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Choice | None = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    functions: list[_Declared] | None = None
    function_call: str | _Named | None = None


_DECODER = msgspec.json.Decoder(ChatRequest)
_KNOWN = names_of(ChatRequest)


def read_request(fields: Fields) -> Request:
    """The request. Raises `BadRequest` naming the field that is wrong or missing."""
    known: Fields = {name: raw for name, raw in fields.items() if name in _KNOWN}
    asked = convert(known, _DECODER)
    options = asked.stream_options
    extra = others(fields, _KNOWN)
    # Tools that are no functions, and a choice among them, have no word here: the field stays whole beside ours.
    if any(tool.function is None for tool in asked.tools or []):
        extra["tools"] = msgspec.json.decode(fields["tools"])
    if isinstance(asked.tool_choice, _Choice) and asked.tool_choice.function is None:
        extra["tool_choice"] = msgspec.json.decode(fields["tool_choice"])
    return Request(
        model=asked.model,
        messages=_messages(asked.messages),
        stream=bool(asked.stream),
        include_usage=bool(options is not None and options.include_usage),
        max_tokens=asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        stop=shared.stops(asked.stop),
        seed=asked.seed,
        frequency_penalty=asked.frequency_penalty,
        presence_penalty=asked.presence_penalty,
        choices=asked.n,
        tools=_tools(asked),
        tool_choice=_tool_choice(asked),
        parallel_tool_calls=asked.parallel_tool_calls,
        response_format=_response_format(asked.response_format),
        reasoning_effort=asked.reasoning_effort,
        user=asked.user,
        metadata=asked.metadata,
        extra=extra,
    )


def _messages(messages: list[_Message]) -> tuple[Message, ...]:
    """The turns; results of tools that stand together are one turn, as other dialects have them."""
    found: list[Message] = []
    results: list[ToolResult] = []
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        if message.role in ("tool", "function"):
            results.append(_tool_result(message, place))
            continue
        if results:
            found.append(Message("user", tuple(results)))
            results = []
        found.append(_message(message, place))
    if results:
        found.append(Message("user", tuple(results)))
    return tuple(found)


def _message(message: _Message, place: str) -> Message:
    content = shared.read_content(message.content, f"{place}.content")
    if message.role == "user":
        return Message("user", content, message.name)
    if message.role != "assistant":
        return Message("system", content, message.name)
    said = (*content, *_refused(message))
    calls = _calls(message)
    thoughts, of_calls = _thoughts(message, bool(calls))
    return Message("assistant", (*thoughts, *said, *of_calls, *calls), message.name)


def _thoughts(message: _Message, calls: bool) -> tuple[list[ReasoningContent], list[ReasoningContent]]:
    """What was thought, and what binds the calls: there is no order of them here, and Gemini's binds what follows."""
    thought = message.reasoning_content or message.reasoning or ""
    if not message.reasoning_details:
        return ([ReasoningContent(thought)] if thought else []), []
    found = read_details(message.reasoning_details, thought)
    binds = [one for one in found if calls and one.vendor == GEMINI and not one.text]
    return [one for one in found if one not in binds], binds


def _refused(message: _Message) -> tuple[Content, ...]:
    return (TextContent(message.refusal),) if message.refusal else ()


def _calls(message: _Message) -> tuple[Content, ...]:
    calls: list[Content] = []
    for call in message.tool_calls or []:
        if call.function is None:
            calls.append(OpaqueContent(shared.OPAQUE_CALL, msgspec.to_builtins(call)))
        else:
            calls.append(ToolUse(call.id, call.function.name, call.function.arguments))
    if message.function_call is not None:
        # A legacy call has no id: its function's name stands for it, here and in the result.
        calls.append(ToolUse(message.function_call.name, message.function_call.name, message.function_call.arguments))
    return tuple(calls)


def _tool_result(message: _Message, place: str) -> ToolResult:
    key = "name" if message.role == "function" else "tool_call_id"
    id = message.name if message.role == "function" else message.tool_call_id
    if not id:
        raise BadRequest(f"{place}.{key}: missing", param=f"{place}.{key}")
    content = shared.read_content(message.content, f"{place}.content")
    for index, piece in enumerate(content):
        if not isinstance(piece, TextContent | ImageContent | FileContent):
            where = f"{place}.content[{index}].type"
            raise BadRequest(f"{where}: A tool cannot answer this.", param=where)
    kept = tuple(piece for piece in content if isinstance(piece, TextContent | ImageContent | FileContent))
    return ToolResult(id, kept)


def _tools(asked: ChatRequest) -> tuple[Tool, ...]:
    declared = [tool.function for tool in asked.tools or [] if tool.function is not None] + (asked.functions or [])
    return tuple(Tool(one.name, one.description, one.parameters, one.strict) for one in declared)


def _tool_choice(asked: ChatRequest) -> str | None:
    choice = asked.tool_choice if asked.tool_choice is not None else asked.function_call
    if choice is None:
        return None
    if isinstance(choice, str):
        field = "tool_choice" if asked.tool_choice is not None else "function_call"
        if choice not in ("auto", "none", "required", "any"):
            raise BadRequest(f"{field}: Expected auto, none or required.", param=field)
        return "required" if choice == "any" else choice
    named = choice if isinstance(choice, _Named) else choice.function
    return None if named is None else f"tool:{named.name}"


def _response_format(format: _Format | None) -> ResponseFormat | None:
    if format is None:
        return None
    if format.type != "json_schema":
        return ResponseFormat(format.type)
    if format.json_schema is None:
        raise BadRequest("response_format.json_schema: missing", param="response_format.json_schema")
    schema = format.json_schema
    return ResponseFormat("json_schema", schema.schema, schema.name, schema.strict)
