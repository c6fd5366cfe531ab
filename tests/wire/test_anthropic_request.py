"""Requests of Anthropic Messages, read and written."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from typing import Any

import msgspec
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
from sidegate.wire.anthropic.dialect import AnthropicMessages
from sidegate.wire.body import read_fields, write_fields
from tests.wire.recordings import Case, parameters

DIALECT = AnthropicMessages()
HI = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}


def read(**fields: Any) -> Request:
    return DIALECT.read_request(read_fields(json.dumps({**HI, **fields}).encode()))


def write(**fields: Any) -> tuple[dict[str, Any], list[str]]:
    asked = {"model": "m", "messages": (Message("user", (TextContent("Hi"),)),), **fields}
    dropped: list[str] = []
    return DIALECT.write_request(Request(**asked), dropped), dropped


def user(*blocks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(blocks)}]


RECORDED = parameters("anthropic/messages-", only=lambda case: case.asked)


@pytest.mark.parametrize("case", RECORDED)
def test_every_recorded_request_is_read_and_written_again(case: Case) -> None:
    assert case.request is not None
    request = DIALECT.read_request(read_fields(case.request))
    dropped: list[str] = []
    again = DIALECT.write_request(request, dropped)
    assert dropped == []
    # What is written again means the same: it is read as the same request.
    reread = DIALECT.read_request(read_fields(msgspec.json.encode(again)))
    roles = [message.role for message in request.messages]
    if all(role != later for role, later in pairwise(roles)):
        assert reread == request
    assert (reread.tools, reread.extra, reread.stream) == (request.tools, request.extra, request.stream)


def test_a_plain_request_is_read_whole() -> None:
    request = read(
        stream=True,
        system="Be kind.",
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stop_sequences=["###"],
        metadata={"user_id": "u", "other": 1},
        service_tier="auto",
        tools=[{"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": {}}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 2000},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    )
    assert request == Request(
        model="m",
        messages=(Message("system", (TextContent("Be kind."),)), Message("user", (TextContent("Hi"),))),
        stream=True,
        max_tokens=9,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stop=("###",),
        tools=(Tool("f", "d", {"type": "object"}),),
        tool_choice="required",
        parallel_tool_calls=False,
        response_format=ResponseFormat("json_schema", {"type": "object"}),
        reasoning_effort="low",
        reasoning_tokens=2000,
        user="u",
        metadata={"other": 1},
        extra={"service_tier": "auto"},
    )


@pytest.mark.parametrize(
    ("choice", "meaning"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, "tool:f"),
    ],
)
def test_each_tool_choice_has_its_word_and_goes_back(choice: dict[str, Any], meaning: str) -> None:
    assert read(tool_choice=choice).tool_choice == meaning
    assert write(tool_choice=meaning, tools=(Tool("f"),))[0]["tool_choice"] == choice


@pytest.mark.parametrize(
    ("block", "content"),
    [
        ({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, TextContent("a")),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
            ImageContent(data="aGk=", media_type="image/png"),
        ),
        ({"type": "image", "source": {"type": "url", "url": "https://a/b"}}, ImageContent(url="https://a/b")),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}},
            FileContent("aGk=", "application/pdf"),
        ),
        (
            {"type": "document", "title": "t", "source": {"type": "text", "media_type": "text/plain", "data": "hé"}},
            FileContent(base64.b64encode("hé".encode()).decode(), "text/plain", "t"),
        ),
        ({"type": "document", "source": {"type": "url", "url": "https://a"}}, FileContent(url="https://a")),
        ({"type": "document", "source": {"type": "file", "file_id": "f"}}, FileContent(file_id="f")),
        ({"type": "thinking", "thinking": "Hm", "signature": "s"}, ReasoningContent("Hm", "s", None, "anthropic")),
        ({"type": "redacted_thinking", "data": "x"}, ReasoningContent(redacted="x", vendor="anthropic")),
        ({"type": "tool_use", "id": "i", "name": "f", "input": {"a": [1]}}, ToolUse("i", "f", '{"a":[1]}')),
        (
            {"type": "tool_result", "tool_use_id": "i", "content": "done", "is_error": True},
            ToolResult("i", (TextContent("done"),), True),
        ),
        ({"type": "tool_result", "tool_use_id": "i"}, ToolResult("i", ())),
        (
            {"type": "tool_result", "tool_use_id": "i", "content": [{"type": "search_result", "title": "t"}]},
            ToolResult("i", (TextContent('{"type":"search_result","title":"t"}'),)),
        ),
        (
            {"type": "container_upload", "file_id": "f"},
            OpaqueContent("container_upload", {"type": "container_upload", "file_id": "f"}),
        ),
        (
            {"type": "image", "source": {"type": "file", "file_id": "f"}},
            OpaqueContent("image", {"type": "image", "source": {"type": "file", "file_id": "f"}}),
        ),
    ],
)
def test_each_block_is_read_and_written_again(block: dict[str, Any], content: Any) -> None:
    request = read(messages=user({"type": "text", "text": "."}, block))
    assert request.messages[0].content == (TextContent("."), content)
    again = DIALECT.read_request(read_fields(msgspec.json.encode(DIALECT.write_request(request, []))))
    assert set(map(str, again.messages[0].content)) == set(map(str, request.messages[0].content))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [3]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": user({"type": "text"})}, "messages[0].content[0].text"),
        ({"messages": user({"type": "text", "text": 3})}, "messages[0].content[0].text"),
        ({"messages": user({"text": "a"})}, "messages[0].content[0].type"),
        ({"messages": user({"type": "tool_use", "id": "i", "name": "f", "input": 3})}, "messages[0].content[0].input"),
        (
            {"messages": user({"type": "tool_result", "tool_use_id": "i", "content": [{"type": "text"}]})},
            "messages[0].content[0].content[0].text",
        ),
        ({"system": [{"type": "text"}]}, "system[0].text"),
        ({"temperature": 1.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"stop_sequences": "a"}, "stop_sequences"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"name": 3, "input_schema": {}}]}, "tools[0].name"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": -1}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": 3}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_format": {"type": "text"}}, "output_format.type"),
        ({"metadata": {"user_id": 3}}, "metadata.user_id"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    assert caught.value.param == param
    assert caught.value.status == 400


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity", "1" * 400])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    body = json.dumps(HI)[:-1] + f', "temperature": {number}}}'
    with pytest.raises(BadRequest):
        DIALECT.read_request(read_fields(body.encode()))


def test_results_nested_without_end_are_no_failure_of_the_gateway() -> None:
    block = '{"type":"tool_result","tool_use_id":"i","content":['
    for depth in (100, 400, 900, 50_000):
        body = json.dumps(HI)[:-1] + ', "messages": [{"role":"user","content":[' + block * depth + "]}" * depth + "]}]}"
        try:
            DIALECT.read_request(read_fields(body.encode()))
        except BadRequest:
            continue


def test_anthropics_own_tools_are_kept_and_named_elsewhere() -> None:
    search = {"type": "web_search_20260318", "name": "web_search"}
    request = read(tools=[search, {"name": "f", "input_schema": {"type": "object"}}])
    assert request.extra == {"tools": [search]}
    assert [tool.name for tool in request.tools] == ["f"]
    dropped: list[str] = []
    assert [tool["name"] for tool in DIALECT.write_request(request, dropped)["tools"]] == ["f", "web_search"]
    assert dropped == []


def test_thinking_that_adapts_stays_as_it_is() -> None:
    request = read(thinking={"type": "adaptive", "display": "omitted"}, output_config={"effort": "high"})
    assert (request.reasoning_tokens, request.reasoning_effort) == (None, "high")
    again = DIALECT.write_request(request, [])
    assert again["thinking"] == {"type": "adaptive", "display": "omitted"}
    assert again["output_config"] == {"effort": "high"}
    assert read(thinking={"type": "disabled"}).extra == {}


def test_a_clients_own_request_is_adapted_and_otherwise_untouched() -> None:
    body = b'{"model": "alias", "stream": false, "odd": [1.50, 1e2], "messages": [ ]}'
    assert write_fields(DIALECT.adapt(read_fields(body), model="real", stream=True)) == (
        b'{"model":"real","odd":[1.50, 1e2],"messages":[ ],"stream":true}'
    )
    adapted = DIALECT.adapt(read_fields(body), model="real", stream=False)
    assert write_fields(adapted) == b'{"model":"real","odd":[1.50, 1e2],"messages":[ ]}'
