"""Requests of Responses: what is understood, refused and dropped, and what comes back when they are written."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

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
from sidegate.wire.bound import check_translatable
from sidegate.wire.registry import DIALECTS
from tests.wire.responses_reading import responses


def read(**fields: Any) -> Request:
    return responses.read_request(read_fields(msgspec.json.encode({"model": "m", **fields})))


def write(request: Request) -> tuple[dict[str, Any], list[str]]:
    dropped: list[str] = []
    return responses.write_request(request, dropped), dropped


def test_a_text_is_a_turn_and_instructions_stand_before_it() -> None:
    request = read(input="Hi", instructions="Be kind.")
    assert request.messages == (
        Message("system", (TextContent("Be kind."),)),
        Message("user", (TextContent("Hi"),)),
    )
    body, dropped = write(request)
    assert body["instructions"] == "Be kind."
    assert body["input"] == [{"type": "message", "role": "user", "content": "Hi"}]
    assert body["store"] is False
    assert dropped == []


CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "42"}
THOUGHT = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}], "encrypted_content": "gAA"}


def test_items_of_one_side_are_one_turn() -> None:
    second = {**CALL, "call_id": "c2"}
    request = read(
        input=[
            {"role": "user", "content": "Hi"},
            THOUGHT,
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Wait."}]},
            CALL,
            second,
            RESULT,
            {**RESULT, "call_id": "c2", "output": [{"type": "input_text", "text": "43"}]},
            {"role": "user", "content": "And?"},
            {"role": "developer", "content": "Be brief."},
        ]
    )
    assert request.messages == (
        Message("user", (TextContent("Hi"),)),
        Message(
            "assistant",
            (
                ReasoningContent("Hm", "gAA", None, "openai"),
                TextContent("Wait."),
                ToolUse("c1", "f", '{"a":1}'),
                ToolUse("c2", "f", '{"a":1}'),
            ),
        ),
        Message("user", (ToolResult("c1", (TextContent("42"),)), ToolResult("c2", (TextContent("43"),)))),
        Message("user", (TextContent("And?"),)),
        Message("system", (TextContent("Be brief."),)),
    )
    body, _ = write(request)
    assert responses.read_request(read_fields(msgspec.json.encode(body))).messages == request.messages
    assert body["input"][1] == THOUGHT


def test_images_and_files_are_read_and_written() -> None:
    content: list[dict[str, Any]] = [
        {"type": "input_text", "text": "See"},
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"},
        {"type": "input_file", "file_url": "https://x/z.pdf"},
        {"type": "input_file", "file_id": "file-1"},
    ]
    request = read(input=[{"type": "message", "role": "user", "content": content}])
    assert request.messages[0].content[1:] == (
        ImageContent(url="https://x/y.png", detail="low"),
        ImageContent(data="AAAA", media_type="image/png"),
        FileContent("BBBB", "application/pdf", "a.pdf"),
        FileContent(url="https://x/z.pdf"),
        FileContent(file_id="file-1"),
    )
    assert write(request)[0]["input"][0]["content"] == content
    unnamed = Request(model="m", messages=(Message("user", (FileContent("BBBB", "application/pdf"),)),))
    assert write(unnamed)[0]["input"][0]["content"][0]["filename"] == "file.pdf"


def test_what_steers_the_model_is_read_and_written() -> None:
    schema = {"type": "object", "properties": {}}
    fields: dict[str, Any] = {
        "input": [{"type": "message", "role": "user", "content": "Hi"}],
        "max_output_tokens": 99,
        "temperature": 0.5,
        "top_p": 0.9,
        "tools": [{"type": "function", "name": "f", "description": "d", "parameters": schema, "strict": True}],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": False,
        "text": {
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True},
        },
        "reasoning": {"summary": "auto", "effort": "high"},
        "user": "u",
        "metadata": {"a": "b"},
        "store": True,
        "include": ["reasoning.encrypted_content"],
        "service_tier": "flex",
    }
    request = read(**fields)
    assert (request.max_tokens, request.temperature, request.top_p) == (99, 0.5, 0.9)
    assert request.tools == (Tool("f", "d", schema, True),)
    assert (request.tool_choice, request.parallel_tool_calls) == ("tool:f", False)
    assert request.response_format == ResponseFormat("json_schema", schema, "n", True)
    assert (request.reasoning_effort, request.user, request.metadata) == ("high", "u", {"a": "b"})
    assert write(request) == ({"model": "m", **fields}, [])


def test_tools_that_are_no_functions_stay_beside_those_that_are() -> None:
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}]
    own = [{"type": "web_search"}, {"type": "mcp", "server_label": "x"}, {"type": "custom", "name": "y"}]
    request = read(input="Hi", tools=[*own, *tools], tool_choice={"type": "web_search"})
    assert [tool.name for tool in request.tools] == ["f"]
    body, dropped = write(request)
    assert body["tools"] == [*tools, *own]
    assert body["tool_choice"] == {"type": "web_search"}
    assert dropped == []
    for name in ("openai.chat", "anthropic.messages"):
        other: list[str] = []
        written = DIALECTS[name].write_request(request, other)
        assert len(written["tools"]) == 1
        assert {"tools", "tool_choice"} <= set(other)


@pytest.mark.parametrize(
    "tools",
    [
        [{"type": "web_search_20250305", "name": "web_search"}],
        [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "x"}}],
    ],
    ids=["of-anthropic", "of-chat"],
)
def test_tools_of_another_dialects_own_are_dropped_and_named(tools: list[Any]) -> None:
    body, dropped = write(Request(model="m", messages=(Message("user", (TextContent("Hi"),)),), extra={"tools": tools}))
    assert "tools" not in body
    assert dropped == ["tools"]


def test_a_function_of_another_dialect_is_not_strict_unless_it_says_so() -> None:
    request = Request(model="m", messages=(Message("user", (TextContent("Hi"),)),), tools=(Tool("f"),))
    [tool] = write(request)[0]["tools"]
    assert tool == {
        "type": "function",
        "name": "f",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    }


def test_what_has_no_counterpart_is_named_once() -> None:
    request = Request(
        model="m",
        messages=(
            Message("user", (TextContent("Hi"), OpaqueContent("document", {"type": "document"})), name="Ann"),
            Message("assistant", (ReasoningContent("unsigned"), TextContent("Ho"))),
        ),
        top_k=3,
        seed=1,
        stop=("x", "y"),
        frequency_penalty=0.1,
        presence_penalty=0.1,
        reasoning_tokens=99,
        extra={"logit_bias": {}, "prompt_cache_key": "k", "verbosity": "low"},
    )
    body, dropped = write(request)
    assert sorted(dropped) == [
        "frequency_penalty",
        "logit_bias",
        "messages.content.document",
        "messages.content.reasoning",
        "messages.name",
        "presence_penalty",
        "reasoning_tokens",
        "seed",
        "stop",
        "top_k",
    ]
    assert body["prompt_cache_key"] == "k"
    assert body["text"] == {"verbosity": "low"}


def test_more_than_one_choice_is_refused() -> None:
    with pytest.raises(BadRequest) as raised:
        write(Request(model="m", choices=2))
    assert raised.value.param == "n"


def test_thinking_is_asked_for_sealed_where_a_model_is_to_think() -> None:
    asked = Request(model="m", messages=(Message("user", (TextContent("Hi"),)),), reasoning_effort="low")
    assert write(asked)[0]["include"] == ["reasoning.encrypted_content"]
    assert "include" not in write(replace(asked, reasoning_effort=None))[0]


def test_what_a_plugin_leaves_alone_is_written_as_it_was() -> None:
    referred = [{"type": "item_reference", "id": "x"}, {"id": "y"}, {"type": None, "id": "z"}]
    request = read(input=[*referred, {"type": None, "role": "user", "content": "Hi"}], truncation="auto")
    before, after = write(request)[0], write(replace(request, max_tokens=7))[0]
    assert {name for name in after if before.get(name) != after[name]} == {"max_output_tokens"}
    assert before["input"][:3] == referred


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"input": 7}, "input"),
        ({"input": [7]}, "input[0]"),
        ({"input": [{"type": "message", "role": "x", "content": "y"}]}, "input[0].role"),
        ({"input": [{"type": "message", "role": "user"}]}, "input[0].content"),
        ({"input": [{"type": 7}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"text": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": "some"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"reasoning": {"effort": 7}}, "reasoning.effort"),
    ],
)
def test_a_mistake_names_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read(**{"input": "Hi", **fields})
    assert raised.value.param == param
    assert raised.value.status == 400


def test_an_answer_of_a_tool_without_a_word_is_kept_whole() -> None:
    answered = {
        "type": "function_call_output",
        "call_id": "c",
        "output": [{"type": "input_image", "file_id": "file-1"}],
    }
    called = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    request = read(input=[called, answered])
    assert write(replace(request, max_tokens=7))[0]["input"][1] == answered
    with pytest.raises(BadRequest) as refused:
        check_translatable("openai.responses", request)
    assert refused.value.param == "input"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True}, "background"),
        ({"input": [{"role": "user", "content": "Hi"}, {"type": "item_reference", "id": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": "Hi"}, {"id": "x"}]}, "input"),
        ({"input": []}, "input"),
    ],
)
def test_what_only_its_provider_can_give_is_refused_elsewhere(fields: dict[str, Any], param: str) -> None:
    request = read(**{"input": "Hi", **fields})
    with pytest.raises(BadRequest) as raised:
        check_translatable("openai.responses", request)
    assert raised.value.param == param


def test_what_others_say_by_the_same_names_is_not_refused() -> None:
    check_translatable("openai.chat", Request(model="m", extra={"prompt": "x"}))
    check_translatable("openai.responses", read(input="Hi", previous_response_id=None, background=False))


def test_options_of_streams_go_only_where_one_is_asked_for() -> None:
    fields = read_fields(b'{"model":"m","input":"x","stream":true,"stream_options":{"include_obfuscation":false}}')
    assert set(responses.adapt(fields, model="o", stream=True)) == {"model", "input", "stream", "stream_options"}
    assert set(responses.adapt(fields, model="o", stream=False)) == {"model", "input"}


@pytest.mark.parametrize("depth", [300, 3000, 100_000])
@pytest.mark.parametrize("place", ["input", "tools", "metadata", "text", "new"])
def test_a_deep_request_kills_nothing(place: str, depth: int) -> None:
    body = b'{"model":"m","input":"x","%s":%s}' % (place.encode(), b"[" * depth + b"]" * depth)
    with pytest.raises(BadRequest) if place != "new" or depth > 300 else nullcontext():
        assert responses.read_request(read_fields(body)).extra["new"]
