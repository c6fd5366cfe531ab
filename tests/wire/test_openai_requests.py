"""Chat Completions requests: read strictly, written for a provider of the dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidegate.contract.meaning import (
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
from sidegate.wire.body import read_fields
from sidegate.wire.openai_chat.dialect import OpenAIChat

chat = OpenAIChat()

USER = {"role": "user", "content": "hi"}


def read(**request: Any) -> Request:
    body = {"model": "m", "messages": [USER], **request}
    return chat.read_request(read_fields(json.dumps(body).encode()))


def write(request: Request) -> tuple[dict[str, Any], list[str]]:
    dropped: list[str] = []
    body = chat.write_request(request, dropped)
    json.dumps(body)
    return body, dropped


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [USER, {"role": "user", "content": 3}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"max_tokens": 10**40}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stop": 3}, "stop"),
        ({"stop": [3]}, "stop[0]"),
        ({"seed": 2**63}, "seed"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "f", "parameters": "x"}}]}, "tools[0].function.parameters"),
        ({"tool_choice": "some"}, "tool_choice"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"metadata": []}, "metadata"),
        ({"user": 3}, "user"),
    ],
)
def test_a_wrong_field_is_a_400_that_names_it(wrong: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read(**wrong)
    assert raised.value.status == 400
    assert raised.value.param == param
    assert raised.value.message.startswith(param)


def test_a_missing_model_or_message_is_named() -> None:
    for body, param in (
        (b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
        (b'{"model": "m"}', "messages"),
    ):
        with pytest.raises(BadRequest) as raised:
            chat.read_request(read_fields(body))
        assert raised.value.param == param


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999"])
def test_numbers_that_are_none_are_a_400(number: bytes) -> None:
    for name in (b"temperature", b"unknown"):
        raw = b'{"model":"m","messages":[{"role":"user","content":"x"}],"' + name + b'":' + number + b"}"
        with pytest.raises(BadRequest):
            chat.read_request(read_fields(raw))


def test_every_setting_is_read() -> None:
    schema = {"type": "object"}
    request = read(
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=5,
        max_completion_tokens=7,
        temperature=1,
        top_p=0.5,
        stop="END",
        seed=3,
        frequency_penalty=-1,
        presence_penalty=1,
        n=2,
        tools=[{"type": "function", "function": {"name": "f", "parameters": schema, "strict": True}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}},
        reasoning_effort="low",
        user="u",
        metadata={"k": "v"},
        logit_bias={"1": 2},
    )
    assert request == Request(
        model="m",
        messages=(Message("user", (TextContent("hi"),)),),
        stream=True,
        include_usage=True,
        max_tokens=7,
        temperature=1.0,
        top_p=0.5,
        stop=("END",),
        seed=3,
        frequency_penalty=-1.0,
        presence_penalty=1.0,
        choices=2,
        tools=(Tool("f", None, schema, True),),
        tool_choice="tool:f",
        parallel_tool_calls=False,
        response_format=ResponseFormat("json_schema", schema, "a", True),
        reasoning_effort="low",
        user="u",
        metadata={"k": "v"},
        extra={"logit_bias": {"1": 2}},
    )


def test_nulls_are_as_if_missing_and_usage_is_not_wanted_unless_asked() -> None:
    request = read(max_tokens=None, stop=None, tools=None, stream=None, stream_options=None, response_format=None)
    assert request == Request(model="m", messages=(Message("user", (TextContent("hi"),)),), include_usage=False)


def test_turns_are_read() -> None:
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    request = read(
        messages=[
            {"role": "developer", "content": "be good"},
            {"role": "user", "content": "hi", "name": "ann"},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [call, {**call, "id": "y"}],
            },
            {"role": "tool", "tool_call_id": "x", "content": "1"},
            {"role": "tool", "tool_call_id": "y", "content": [{"type": "text", "text": "2"}]},
            {"role": "assistant", "content": "done"},
        ]
    )
    assert request.messages == (
        Message("system", (TextContent("be good"),)),
        Message("user", (TextContent("hi"),), "ann"),
        Message("assistant", (ReasoningContent("hm"), ToolUse("x", "f", "{}"), ToolUse("y", "f", "{}"))),
        Message("user", (ToolResult("x", (TextContent("1"),)), ToolResult("y", (TextContent("2"),)))),
        Message("assistant", (TextContent("done"),)),
    )


def test_legacy_functions_are_tools() -> None:
    request = read(
        messages=[
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "1"},
        ],
        functions=[{"name": "f", "parameters": {}}],
        function_call={"name": "f"},
    )
    assert request.messages == (
        Message("assistant", (ToolUse("f", "f", "{}"),)),
        Message("user", (ToolResult("f", (TextContent("1"),)),)),
    )
    assert (request.tools, request.tool_choice) == ((Tool("f", None, {}),), "tool:f")


def test_pieces_of_content_are_read() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    request = read(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                    {"type": "image_url", "image_url": "https://x/z.png"},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"}},
                    {"type": "file", "file": {"file_id": "file-1"}},
                    audio,
                ],
            }
        ]
    )
    assert request.messages[0].content == (
        TextContent("look"),
        ImageContent(url="https://x/y.png", detail="low"),
        ImageContent(data="AA==", media_type="image/png"),
        ImageContent(url="https://x/z.png"),
        FileContent("AA==", "application/pdf", "a.pdf"),
        FileContent(file_id="file-1"),
        OpaqueContent("openai.input_audio", audio),
    )


def test_tools_of_the_providers_own_are_kept_whole() -> None:
    tools = [{"type": "custom", "custom": {"name": "c"}}, {"type": "function", "function": {"name": "f"}}]
    choice = {"type": "custom", "custom": {"name": "c"}}
    call = {"id": "x", "type": "custom", "custom": {"name": "c", "input": "1"}}
    request = read(
        tools=tools, tool_choice=choice, messages=[{"role": "assistant", "content": None, "tool_calls": [call]}]
    )
    assert request.tools == (Tool("f"),)
    assert request.extra == {"tools": tools, "tool_choice": choice}
    body, _ = write(request)
    assert body["messages"] == [{"role": "assistant", "content": None, "tool_calls": [call]}]


def test_what_is_read_is_written_again() -> None:
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be good"},
            {"role": "user", "content": "hi", "name": "ann"},
            {"role": "assistant", "content": "calling", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "x", "content": "1"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a"}},
                    {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                ],
            },
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
        "temperature": 0.5,
        "stop": ["a", "b"],
        "n": 2,
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
        "user": "u",
        "metadata": {"k": "v"},
    }
    assert write(chat.read_request(read_fields(json.dumps(body).encode()))) == (body, [])


def test_what_has_no_counterpart_is_dropped_and_named_once() -> None:
    image = ImageContent(data="AA==")
    request = Request(
        model="m",
        messages=(
            Message("assistant", (ReasoningContent("hm", "sig"), TextContent("a"))),
            Message("assistant", (ReasoningContent("hm"), TextContent("b"), TextContent("c"))),
            Message("user", (ToolResult("x", (TextContent("1"), image), True), TextContent("go on"))),
            Message("user", (OpaqueContent("anthropic.search_result", {}), TextContent("x"))),
        ),
        top_k=3,
        reasoning_tokens=1024,
        extra={"thinking": {}, "logit_bias": {}},
    )
    body, dropped = write(request)
    # A result has no place for an image: the user shows it right after.
    shown = {"type": "image_url", "image_url": {"url": "data:application/octet-stream;base64,AA=="}}
    assert body["messages"] == [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "bc"},
        {"role": "tool", "tool_call_id": "x", "content": "1"},
        {"role": "user", "content": [shown, {"type": "text", "text": "go on"}]},
        {"role": "user", "content": "x"},
    ]
    assert sorted(dropped) == [
        "logit_bias",
        "messages.content.anthropic.search_result",
        "messages.content.reasoning",
        "reasoning_tokens",
        "thinking",
        "tool_result.is_error",
        "top_k",
    ]
    assert body.keys() == {"model", "messages"}


def test_an_assistant_with_calls_alone_has_null_content() -> None:
    body, _ = write(Request(model="m", messages=(Message("assistant", (ToolUse("x", "f", ""),)),)))
    [message] = body["messages"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"]["arguments"] == "{}"


def test_a_choice_among_no_tools_is_left_out() -> None:
    body, _ = write(Request(model="m", tool_choice="auto", parallel_tool_calls=True))
    assert body == {"model": "m", "messages": []}


def test_a_stream_asks_for_usage() -> None:
    body, _ = write(Request(model="m", stream=True, include_usage=False))
    assert body["stream_options"] == {"include_usage": True}
