"""Requests of Anthropic Messages, written for a client of another dialect."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sidegate.contract.meaning import (
    FileContent,
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
from sidegate.wire.anthropic.dialect import TRANSLATED_VERSION, AnthropicMessages
from sidegate.wire.body import read_fields

DIALECT = AnthropicMessages()


def write(**fields: Any) -> tuple[dict[str, Any], list[str]]:
    asked = {"model": "m", "messages": (Message("user", (TextContent("Hi"),)),), **fields}
    dropped: list[str] = []
    return DIALECT.write_request(Request(**asked), dropped), dropped


def test_a_limit_is_set_where_the_client_set_none() -> None:
    assert write()[0]["max_tokens"] == 4096
    assert write(max_tokens=5)[0]["max_tokens"] == 5
    assert write(reasoning_tokens=2000)[0]["max_tokens"] == 6096


def test_system_messages_are_gathered_in_order_wherever_they_stand() -> None:
    messages = (
        Message("system", (TextContent("One."),)),
        Message("user", (TextContent("Hi"),)),
        Message("system", (TextContent("Two."), TextContent(""))),
    )
    body, dropped = write(messages=messages)
    assert body["system"] == [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    assert body["messages"] == [{"role": "user", "content": "Hi"}]
    assert dropped == []


def test_turns_alternate_and_results_stand_first() -> None:
    messages = (
        Message("user", (TextContent("a"),)),
        Message("user", (TextContent("b"),)),
        Message("assistant", (TextContent(""), ToolUse("call.1:a", "f", ""))),
        Message("user", (TextContent("c"),)),
        Message("user", (ToolResult("call.1:a", (TextContent("d"),)),)),
    )
    body, _ = write(messages=messages)
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1_a", "name": "f", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1_a", "content": "d"},
                {"type": "text", "text": "c"},
            ],
        },
    ]


def test_no_two_calls_have_one_id() -> None:
    """Kimi numbers the calls of a function, a legacy function call has its name: Anthropic refuses both."""

    def answered(text: str) -> ToolResult:
        return ToolResult("f:0", (TextContent(text),))

    messages = (
        Message("user", (TextContent("a"),)),
        Message("assistant", (ToolUse("f:0", "f", ""), ToolUse("f.0", "f", ""))),
        Message("user", (answered("one"),)),
        Message("assistant", (ToolUse("f:0", "f", ""), ToolUse("f:0", "f", ""))),
        Message("user", (answered("two"), answered("three"), answered("four"), ToolResult("none", ()))),
    )
    turns = write(messages=messages)[0]["messages"]
    assert [[block["id"] for block in turn["content"]] for turn in turns if turn["role"] == "assistant"] == [
        ["f_0", "f_0_2"],
        ["f_0_3", "f_0_4"],
    ]
    results = [block for turn in turns[1:] if turn["role"] == "user" for block in turn["content"]]
    assert [(block["tool_use_id"], block.get("content")) for block in results] == [
        ("f_0", "one"),
        ("f_0_3", "two"),
        ("f_0_4", "three"),
        ("f_0_4", "four"),
        ("none", None),
    ]


@pytest.mark.parametrize("arguments", ["{", "[]", "3", "nothing", '{"a":1e999}', "[" * 100_000])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    with pytest.raises(BadRequest):
        write(messages=(Message("assistant", (ToolUse("i", "f", arguments),)),))


def test_more_than_one_choice_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        write(choices=2)
    assert caught.value.param == "n"
    assert write(choices=1)[1] == []


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"seed": 1}, "seed"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"temperature": 1.5}, "temperature"),
        ({"temperature": 0.5, "reasoning_tokens": 2000}, "temperature"),
        ({"stop": ("\n", "###")}, "stop"),
        ({"response_format": ResponseFormat("json_object")}, "response_format"),
        ({"reasoning_effort": "minimal"}, "reasoning_effort"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"extra": {"logit_bias": {}}}, "logit_bias"),
        ({"extra": {"service_tier": "flex"}}, "service_tier"),
        ({"extra": {"tools": [{"type": "custom", "custom": {"name": "f"}}]}}, "tools"),
        (
            {
                "messages": (
                    Message("user", (TextContent("a"), OpaqueContent("openai.input_audio", {"type": "input_audio"}))),
                )
            },
            "messages.content.openai.input_audio",
        ),
        (
            {"messages": (Message("assistant", (ReasoningContent("unsigned"), TextContent("a"))),)},
            "messages.content.reasoning",
        ),
        ({"messages": (Message("user", (TextContent("a"),), "Bob"),)}, "messages.name"),
    ],
)
def test_what_has_no_counterpart_is_named_once(fields: dict[str, Any], name: str) -> None:
    body, dropped = write(**fields)
    assert dropped == [name]
    assert name in ("temperature", "stop") or name not in body


def test_what_is_clipped_is_clipped() -> None:
    assert write(temperature=1.5)[0]["temperature"] == 1
    assert write(stop=("\n", "###"))[0]["stop_sequences"] == ["###"]


def test_a_schema_asked_of_the_answer_is_asked_of_anthropic() -> None:
    body, dropped = write(response_format=ResponseFormat("json_schema", {"type": "object"}, "name", True))
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert dropped == []


def test_one_call_at_a_time_needs_a_tool() -> None:
    assert "tool_choice" not in write(parallel_tool_calls=False)[0]
    body, _ = write(parallel_tool_calls=False, tools=(Tool("f", strict=True),))
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}, "strict": True}]


def test_a_text_file_that_is_no_text_is_refused() -> None:
    for data in ("/w==", "not base64!"):
        with pytest.raises(BadRequest):
            write(messages=(Message("user", (FileContent(data, "text/plain"),)),))


def test_translation_speaks_the_version_that_knows_temperature() -> None:
    assert TRANSLATED_VERSION == "2023-06-01"


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10).map(TextContent)
USES = st.builds(ToolUse, st.from_regex(r"[a-z_]{1,5}", fullmatch=True), st.just("f"), st.just('{"a":1}'))
TURNS = st.tuples(
    st.lists(TEXTS, min_size=1, max_size=3).map(lambda texts: Message("user", tuple(texts))),
    st.lists(TEXTS | USES, min_size=1, max_size=3).map(lambda pieces: Message("assistant", tuple(pieces))),
)


@given(
    st.lists(TURNS, min_size=1, max_size=3),
    st.builds(
        dict,
        stream=st.booleans(),
        max_tokens=st.integers(1, 2**31 - 1),
        temperature=st.none() | st.floats(0, 1),
        top_p=st.none() | st.floats(0, 1),
        top_k=st.none() | st.integers(0, 500),
        stop=st.lists(st.text("ab#", min_size=1), max_size=2).map(tuple),
        tools=st.just((Tool("f", "d", {"type": "object"}),)),
        tool_choice=st.sampled_from((None, "auto", "required", "tool:f")),
        reasoning_effort=st.sampled_from((None, "low", "max")),
        user=st.none() | st.text("abc", min_size=1),
    ),
)
def test_what_is_written_is_read_as_the_same_request(
    turns: list[tuple[Message, Message]], fields: dict[str, Any]
) -> None:
    messages = tuple(message for pair in turns for message in pair)
    ids = [piece.id for message in messages for piece in message.content if isinstance(piece, ToolUse)]
    assume(len(ids) == len(set(ids)))  # else they are renamed
    request = Request(model="m", messages=messages, **fields)
    dropped: list[str] = []
    body = msgspec.json.encode(DIALECT.write_request(request, dropped))
    assert DIALECT.read_request(read_fields(body)) == request
    assert dropped == []
