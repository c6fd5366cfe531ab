"""Requests of `useChat` and `useCompletion`, read: strictly typed, each error naming its field.

The protocol itself has `messages` or `prompt`, and ids. An app may add whatever it likes to the body: of that, the call
settings of the AI SDK are understood by its names, and the rest, being the app's own, says nothing to a model.
Source: https://ai-sdk.dev/docs/ai-sdk-core/settings.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from sidegate.contract.meaning import Message, Request, ResponseFormat, TextContent, Tool
from sidegate.errors import BadRequest
from sidegate.wire.body import convert, names_of, read_as
from sidegate.wire.dialect import Fields
from sidegate.wire.openai_request import Name, Penalty, Seed, Share, Stops, Temperature, Tokens
from sidegate.wire.ui.history import UIMessage, read_messages

_OPTIONS = "providerOptions"
_DEFAULT_EFFORT = "provider-default"


class _ToolChoice(Struct, rename="camel"):
    type: Literal["auto", "none", "required", "tool"]
    tool_name: str = ""


class _Tool(Struct, rename="camel"):
    """A tool without its name: as apps write them by hand, and as UI libraries send them."""

    description: str | None = None
    input_schema: dict[str, Any] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    type: Literal["function"] | None = None


class _NamedTool(_Tool, rename="camel", kw_only=True):
    name: Name


class _Format(Struct):
    type: Literal["text", "json"]
    schema: dict[str, Any] | None = None
    name: str | None = None


class CallSettings(Struct, rename="camel", kw_only=True):
    """What an app may say of how it wants to be answered."""

    model: Name
    stream: bool | None = None
    system: str | None = None
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=0, lt=2**31)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stop_sequences: Stops | None = None
    seed: Seed | None = None
    tools: Any = None
    tool_choice: str | _ToolChoice | None = None
    reasoning: str | None = None
    response_format: _Format | None = None
    provider_options: dict[str, Any] | None = None


class ChatRequest(CallSettings, rename="camel", kw_only=True):
    messages: Annotated[list[UIMessage], Meta(min_length=1)]


class CompletionRequest(CallSettings, rename="camel", kw_only=True):
    prompt: str


_CHAT = msgspec.json.Decoder(ChatRequest)
_COMPLETION = msgspec.json.Decoder(CompletionRequest)
_OF_CHAT = names_of(ChatRequest)
_OF_COMPLETION = names_of(CompletionRequest)


def read_chat(fields: Fields) -> Request:
    """What `useChat` asks. Raises `BadRequest` naming the field that is wrong or missing."""
    asked = convert({name: raw for name, raw in fields.items() if name in _OF_CHAT}, _CHAT)
    turns = read_messages(asked.messages)
    if not any(turn.role != "system" for turn in turns):
        raise BadRequest("messages: There is nothing to answer.", param="messages")
    return _request(asked, turns)


def read_completion(fields: Fields) -> Request:
    """What `useCompletion` asks: a chat of one message."""
    asked = convert({name: raw for name, raw in fields.items() if name in _OF_COMPLETION}, _COMPLETION)
    return _request(asked, (Message("user", (TextContent(asked.prompt),)),))


def _request(asked: CallSettings, turns: tuple[Message, ...]) -> Request:
    system = asked.system or asked.instructions
    if system:
        turns = (Message("system", (TextContent(system),)), *turns)
    return Request(
        model=asked.model,
        messages=turns,
        stream=asked.stream is not False,
        max_tokens=asked.max_output_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        stop=tuple(asked.stop_sequences or ()),
        seed=asked.seed,
        frequency_penalty=asked.frequency_penalty,
        presence_penalty=asked.presence_penalty,
        tools=_tools(asked.tools),
        tool_choice=_tool_choice(asked.tool_choice),
        response_format=_format(asked.response_format),
        reasoning_effort=None if asked.reasoning == _DEFAULT_EFFORT else asked.reasoning,
        # Of which provider they speak is known only when one is asked: they are named as left out.
        extra={_OPTIONS: asked.provider_options} if asked.provider_options else {},
    )


def _tools(tools: Any) -> tuple[Tool, ...]:
    """A record by name, as `streamText` has it, or a list of tools with names."""
    if tools is None:
        return ()
    if isinstance(tools, dict):
        return tuple(_tool(name, read_as(tool, _Tool, f"tools.{name[:100]}")) for name, tool in tools.items())
    if not isinstance(tools, list):
        raise BadRequest("tools: Expected `object`, by name, or `array`", param="tools")
    named = [read_as(tool, _NamedTool, f"tools[{index}]") for index, tool in enumerate(tools)]
    return tuple(_tool(tool.name, tool) for tool in named)


def _tool(name: str, tool: _Tool) -> Tool:
    schema = tool.input_schema if tool.input_schema is not None else tool.parameters
    if schema is not None and isinstance(schema.get("jsonSchema"), dict):
        # What the AI SDK's `jsonSchema()` gives, written as JSON.
        schema = schema["jsonSchema"]
    return Tool(name, tool.description, schema, tool.strict)


def _tool_choice(choice: str | _ToolChoice | None) -> str | None:
    if choice is None:
        return None
    kind = choice if isinstance(choice, str) else choice.type
    if kind == "tool" and isinstance(choice, _ToolChoice) and choice.tool_name:
        return f"tool:{choice.tool_name}"
    if kind not in ("auto", "none", "required"):
        raise BadRequest("toolChoice: Expected auto, none, required, or a tool by `toolName`.", param="toolChoice")
    return kind


def _format(format: _Format | None) -> ResponseFormat | None:
    if format is None or format.type == "text":
        return None
    if format.schema is None:
        return ResponseFormat("json_object")
    return ResponseFormat("json_schema", format.schema, format.name)
