"""Requests of `useChat` and `useCompletion`: the messages of a page are the turns of a conversation."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.contract.meaning import (
    BlockEnd,
    Content,
    End,
    FileContent,
    Finish,
    ImageContent,
    Message,
    OpaqueContent,
    Part,
    Reasoning,
    ReasoningContent,
    Request,
    ResponseFormat,
    Text,
    TextContent,
    Tool,
    ToolCall,
    ToolResult,
    ToolUse,
)
from sidegate.errors import BadRequest
from sidegate.wire.basics import read_basics
from sidegate.wire.body import read_fields
from sidegate.wire.registry import DIALECTS
from sidegate.wire.ui.history import continued
from tests.wire.saying import assembled

CHAT, COMPLETION = DIALECTS["ai_sdk.ui_messages"], DIALECTS["ai_sdk.ui_completion"]
HI = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}
ASKED = Message("user", (TextContent("Hi"),))


def fields(body: dict[str, Any]) -> dict[str, msgspec.Raw]:
    return read_fields(msgspec.json.encode(body))


def chat(*messages: dict[str, Any], **more: Any) -> Request:
    """The request as the gateway reads it: first what everybody knows of it, then all."""
    body = {"model": "m", "id": "c1", "messages": list(messages) or [HI], "trigger": "submit-message", **more}
    read_basics(CHAT.name, msgspec.json.encode(body))
    return CHAT.read_request(fields(body))


def assistant(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"id": "a1", "role": "assistant", "parts": list(parts)}


def answered(*parts: dict[str, Any], then: tuple[dict[str, Any], ...] = ()) -> tuple[Message, ...]:
    """The turns after the first."""
    return chat(HI, assistant(*parts), *then).messages[1:]


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, "state": "done", **more}


def call(id: str, state: str, name: str = "tool-f", **more: Any) -> dict[str, Any]:
    return {"type": name, "toolCallId": id, "state": state, "input": {"a": 1}, **more}


def result(id: str, text: str, is_error: bool = False) -> ToolResult:
    return ToolResult(id, (TextContent(text),), is_error)


USE = ToolUse("t1", "f", '{"a":1}')
STEP = {"type": "step-start"}


# --- turns ------------------------------------------------------------------------------------------------------------


def test_messages_are_turns() -> None:
    system = {"id": "s", "role": "system", "parts": [said("Be brief."), {"type": "data-x", "data": 1}]}
    request = chat(system, HI, assistant(STEP, said("Hello")), {**HI, "metadata": {"a": 1}})
    assert request.messages == (
        Message("system", (TextContent("Be brief."),)),
        ASKED,
        Message("assistant", (TextContent("Hello"),)),
        ASKED,
    )


def test_a_step_is_a_turn_of_its_own() -> None:
    parts = [STEP, said("a"), call("t1", "output-available", output="21 °C"), STEP, said("b")]
    assert answered(*parts) == (
        Message("assistant", (TextContent("a"), USE)),
        Message("user", (result("t1", "21 °C"),)),
        Message("assistant", (TextContent("b"),)),
    )


def test_results_of_parallel_calls_are_one_turn() -> None:
    parts = [call("t1", "output-available", output={"b": [1]}), call("t2", "output-error", errorText="No.")]
    turns = answered(STEP, *parts)
    assert turns[0].content == (USE, ToolUse("t2", "f", '{"a":1}'))
    assert turns[1:] == (Message("user", (result("t1", '{"b":[1]}'), result("t2", "No.", True))),)


STATES: list[tuple[dict[str, Any], ToolResult | None]] = [
    (call("t1", "output-available", output="x"), result("t1", "x")),
    (call("t1", "output-available", output=None), result("t1", "null")),
    (call("t1", "output-available"), result("t1", "null")),
    (call("t1", "output-available", output=[1, "é"], preliminary=True), result("t1", '[1,"é"]')),
    (call("t1", "output-error", errorText="No."), result("t1", "No.", True)),
    (
        call("t1", "output-denied", approval={"id": "p", "approved": False}),
        result("t1", "The call of the tool was denied.", True),
    ),
    (
        call("t1", "output-denied", approval={"id": "p", "approved": False, "reason": "Why?"}),
        result("t1", "Why?", True),
    ),
    (
        call("t1", "approval-responded", approval={"id": "p", "approved": False, "reason": "Why?"}),
        result("t1", "Why?", True),
    ),
    (call("t1", "approval-responded", approval={"id": "p", "approved": True}), None),
    (call("t1", "approval-requested", approval={"id": "p"}), None),
    (call("t1", "input-available"), None),
]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("part", "expected"), STATES, ids=lambda value: str(value)[:60])
def test_each_state_of_a_call_is_heard(part: dict[str, Any], expected: ToolResult | None, dynamic: bool) -> None:
    if dynamic:
        part = {**part, "type": "dynamic-tool", "toolName": "f"}
    results = () if expected is None else (Message("user", (expected,)),)
    assert answered(part) == (Message("assistant", (USE,)), *results)


def test_a_call_that_was_cut_while_it_was_said_is_none() -> None:
    cut = {"type": "tool-f", "toolCallId": "t1", "state": "input-streaming", "input": {"a": 1}}
    assert answered(STEP, said("a"), cut) == (Message("assistant", (TextContent("a"),)),)
    assert answered(STEP, cut) == ()


@pytest.mark.parametrize("state", ["input-available", "approval-requested"])
def test_a_call_that_nobody_answered_before_more_was_said_has_failed(state: str) -> None:
    none = result("t1", "The tool gave no result.", True)
    assert answered(call("t1", state), then=(HI,)) == (
        Message("assistant", (USE,)),
        Message("user", (none,)),
        ASKED,
    )
    later = answered(call("t1", state), STEP, said("b"))
    assert later[1:] == (Message("user", (none,)), Message("assistant", (TextContent("b"),)))
    both = answered(call("t1", state), call("t2", "output-available", output="x"))
    assert both[1:] == (Message("user", (none, result("t2", "x"))),)


def test_arguments_that_are_no_object_are_put_into_one() -> None:
    broken: list[tuple[dict[str, Any], Any]] = [
        ({"input": '{"a": '}, {"rawInvalidInput": '{"a": '}),
        ({"input": '{"a": 1}'}, {"a": 1}),
        ({"input": [1]}, {"rawInvalidInput": [1]}),
        ({"input": None, "rawInput": "x"}, {"rawInvalidInput": "x"}),
        ({"input": None}, {}),
    ]
    for more, expected in broken:
        (use,) = answered({**call("t1", "output-error", errorText="No."), **more})[0].content
        assert isinstance(use, ToolUse)
        assert json.loads(use.arguments) == expected


def test_a_message_that_says_nothing_is_no_turn() -> None:
    assert answered(STEP) == ()
    assert answered(then=(HI,)) == (ASKED,)


def test_a_message_that_was_steered_is_a_turn_between() -> None:
    steering = {"type": "steering-message", "id": "x", "parts": [said("Wait")]}
    turns = answered(STEP, said("a"), steering, said("b"))
    assert [(turn.role, turn.text) for turn in turns] == [("assistant", "a"), ("user", "Wait"), ("assistant", "b")]


def test_a_message_may_be_written_by_hand() -> None:
    assert chat({"role": "user", "content": "Hi"}).messages == (ASKED,)


# --- parts ------------------------------------------------------------------------------------------------------------

FILES: list[tuple[dict[str, Any], Content]] = [
    (
        {"mediaType": "image/png", "url": "data:image/png;base64,AAAA"},
        ImageContent(data="AAAA", media_type="image/png"),
    ),
    ({"mediaType": "image", "url": "data:image/webp;base64,AAAA"}, ImageContent(data="AAAA", media_type="image/webp")),
    ({"mediaType": "image/*", "url": "https://a.example/b"}, ImageContent(url="https://a.example/b")),
    (
        {"mediaType": "image/gif", "url": "http://a.example/b.gif", "filename": "b"},
        ImageContent(url="http://a.example/b.gif", media_type="image/gif"),
    ),
    (
        {"mediaType": "application/pdf", "url": "data:application/pdf;base64,AAAA", "filename": "a.pdf"},
        FileContent(data="AAAA", media_type="application/pdf", name="a.pdf"),
    ),
    (
        {"mediaType": "text/plain", "url": "data:text/plain;charset=utf-8,H%C3%A9"},
        FileContent(data="SMOp", media_type="text/plain"),
    ),
    (
        {"mediaType": "application/pdf", "url": "https://a.example/a.pdf", "filename": "a.pdf"},
        FileContent(url="https://a.example/a.pdf", media_type="application/pdf", name="a.pdf"),
    ),
    (
        {"mediaType": "application/pdf", "url": "", "providerReference": {"openai": "file-1"}},
        FileContent(file_id="file-1", media_type="application/pdf"),
    ),
    ({"url": "data:,a"}, FileContent(data="YQ==")),
]


@pytest.mark.parametrize(("file", "expected"), FILES, ids=lambda value: str(value)[:50])
def test_a_file_is_an_image_or_a_document(file: dict[str, Any], expected: Content) -> None:
    asked = chat({"role": "user", "parts": [{"type": "file", **file}, said("What is it?")]})
    assert asked.messages[0].content == (expected, TextContent("What is it?"))


@pytest.mark.parametrize(
    "url", ["blob:https://a.example/x", "file:///etc/passwd", "ftp://a.example", "data:image/png", ""]
)
def test_a_file_from_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(BadRequest) as caught:
        chat({"role": "user", "parts": [said("a"), {"type": "file", "mediaType": "image/png", "url": url}]})
    assert caught.value.param == "messages[0].parts[1].url"


def test_what_is_for_pages_says_nothing_to_a_model() -> None:
    parts: list[dict[str, Any]] = [
        {"type": "source-url", "sourceId": "1", "url": "https://a.example"},
        {"type": "source-document", "sourceId": "2", "mediaType": "text/plain", "title": "t"},
        {"type": "data-weather", "id": "3", "data": {"a": 1}},
    ]
    assert answered(*parts, said("a")) == (Message("assistant", (TextContent("a"),)),)


def test_what_has_no_word_is_opaque() -> None:
    unknown = {"type": "custom", "kind": "a.b"}
    ran = call("t1", "output-available", "tool-web_search", output=[], providerExecuted=True)
    (turn,) = answered(unknown, ran, said("a"))
    assert turn.content == (
        OpaqueContent("ui.custom", unknown),
        OpaqueContent("ui.provider_tool", ran),
        TextContent("a"),
    )
    for name in ("openai.chat", "anthropic.messages", "gemini.generate", "openai.responses"):
        dropped: list[str] = []
        DIALECTS[name].write_request(chat(HI, assistant(unknown, said("a"))), dropped)
        assert dropped, "what is left out is named"


METADATA: list[tuple[dict[str, Any], ReasoningContent]] = [
    ({"sidegate": {"signature": "s"}}, ReasoningContent("Hm", "s")),
    ({"anthropic": {"signature": "s"}}, ReasoningContent("Hm", "s", None, "anthropic")),
    ({"bedrock": {"signature": "s"}}, ReasoningContent("Hm", "s", None, "anthropic")),
    ({"google": {"thoughtSignature": "s"}}, ReasoningContent("Hm", "s", None, "gemini")),
    ({"vertex": {"thoughtSignature": "s"}}, ReasoningContent("Hm", "s", None, "gemini")),
    (
        {"openai": {"itemId": "rs_1", "reasoningEncryptedContent": "s"}},
        ReasoningContent("Hm", "s", None, "openai"),
    ),
    ({"anthropic": {"redactedData": "x"}}, ReasoningContent("Hm", None, "x", "anthropic")),
    # Through the gateway by another dialect: the mark says whose it is.
    ({"anthropic": {"signature": "gemini:s"}}, ReasoningContent("Hm", "s", None, "gemini")),
    ({"a": 1, "b": {"signature": None}, "c": {"signature": 7}}, ReasoningContent("Hm")),
]


@pytest.mark.parametrize(("metadata", "expected"), METADATA, ids=str)
def test_a_signature_is_found_whoever_wrote_it(metadata: dict[str, Any], expected: ReasoningContent) -> None:
    part = {"type": "reasoning", "text": "Hm", "state": "done", "providerMetadata": metadata}
    assert answered(part, said("a"))[0].content == (expected, TextContent("a"))


def test_a_signature_stands_where_it_stood() -> None:
    signed = {"google": {"thoughtSignature": "s"}}
    (turn,) = answered(said("a", providerMetadata=signed), call("t1", "input-available", callProviderMetadata=signed))
    bare = ReasoningContent(signature="s", vendor="gemini")
    assert turn.content == (TextContent("a"), bare, bare, USE)


# --- there and back ---------------------------------------------------------------------------------------------------

REPLIES: list[tuple[list[Part], tuple[Content, ...]]] = [
    (
        # As Anthropic says it.
        [
            Reasoning("Hm", block=0),
            Reasoning(block=0, signature="s", vendor="anthropic"),
            BlockEnd(block=0),
            Reasoning(block=1, redacted="x", vendor="anthropic"),
            BlockEnd(block=1),
            Text("Let me ", block=2),
            Text("see", block=2),
            BlockEnd(block=2),
            ToolCall("", "t1", "f", block=3),
            ToolCall('{"a":1}', block=3),
            BlockEnd(block=3),
            ToolCall("", "t2", "g", block=4),
            BlockEnd(block=4),
        ],
        (
            ReasoningContent("Hm", "s", None, "anthropic"),
            ReasoningContent(redacted="x", vendor="anthropic"),
            TextContent("Let me see"),
            USE,
            ToolUse("t2", "g", "{}"),
        ),
    ),
    (
        # As Gemini says it.
        [
            Reasoning("Hm", block=0),
            Text("a", block=1),
            Reasoning(block=2, signature="s", vendor="gemini"),
            ToolCall('{"a":1}', "t1", "f", block=3),
            BlockEnd(block=3),
            Text("b", block=1),
            Reasoning(block=2, signature="r", vendor="gemini"),
        ],
        (
            ReasoningContent("Hm"),
            TextContent("a"),
            ReasoningContent(signature="s", vendor="gemini"),
            USE,
            TextContent("b"),
            ReasoningContent(signature="r", vendor="gemini"),
        ),
    ),
    (
        # As OpenAI says it.
        [Reasoning("Hm", block=0), Text("a", block=1), ToolCall('{"a":1}', "t1", "f", block=3)],
        (ReasoningContent("Hm"), TextContent("a"), USE),
    ),
]


@pytest.mark.parametrize(("parts", "expected"), REPLIES, ids=["anthropic", "gemini", "openai"])
def test_a_reply_that_comes_back_is_what_was_said(parts: list[Part], expected: tuple[Content, ...]) -> None:
    message = json.loads(assembled(CHAT, [[*parts, Finish("tool_calls"), End()]]))
    assert chat(HI, message).messages[1:] == (Message("assistant", expected),)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_have_the_names_of_the_sdk() -> None:
    request = chat(
        system="Be brief.",
        maxOutputTokens=10,
        temperature=0.5,
        topP=0.9,
        topK=5,
        presencePenalty=1,
        frequencyPenalty=-1,
        stopSequences=["X"],
        seed=7,
        reasoning="low",
        responseFormat={"type": "json", "schema": {"type": "object"}, "name": "n"},
        providerOptions={"openai": {"store": False}},
        sessionId="mine",
        user={"name": "Ann"},
    )
    assert request == Request(
        model="m",
        messages=(Message("system", (TextContent("Be brief."),)), ASKED),
        stream=True,
        max_tokens=10,
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        presence_penalty=1,
        frequency_penalty=-1,
        stop=("X",),
        seed=7,
        reasoning_effort="low",
        response_format=ResponseFormat("json_schema", {"type": "object"}, "n"),
        extra={"providerOptions": {"openai": {"store": False}}},
    )


def test_fields_of_the_app_are_its_own() -> None:
    plain = chat()
    assert chat(anything=[1], metadata={"a": 1}, max_tokens="x", n=5) == plain
    assert plain.extra == {}


def test_null_is_nothing() -> None:
    nothing = dict.fromkeys(("system", "tools", "toolChoice", "temperature", "maxOutputTokens", "messageId", "stream"))
    assert chat(**nothing) == chat()


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: list[tuple[Any, tuple[Tool, ...]]] = [
    ({"f": {"description": "d", "inputSchema": SCHEMA}}, (Tool("f", "d", SCHEMA),)),
    ({"f": {"parameters": SCHEMA}, "g": {}}, (Tool("f", None, SCHEMA), Tool("g"))),
    ({"f": {"inputSchema": {"jsonSchema": SCHEMA}}}, (Tool("f", None, SCHEMA),)),
    ([{"type": "function", "name": "f", "inputSchema": SCHEMA, "strict": True}], (Tool("f", None, SCHEMA, True),)),
    ([], ()),
]


@pytest.mark.parametrize(("tools", "expected"), TOOLS, ids=lambda value: str(value)[:50])
def test_tools_come_by_name_or_as_a_list(tools: Any, expected: tuple[Tool, ...]) -> None:
    assert chat(tools=tools).tools == expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("auto", "auto"), ("none", "none"), ("required", "required"), ({"type": "tool", "toolName": "f"}, "tool:f")],
)
def test_a_tool_can_be_chosen(choice: Any, expected: str) -> None:
    assert chat(toolChoice=choice).tool_choice == expected


def test_an_effort_that_is_the_providers_own_is_none() -> None:
    assert chat(reasoning="provider-default").reasoning_effort is None


def test_a_completion_is_a_chat_of_one_message() -> None:
    request = COMPLETION.read_request(fields({"model": "m", "prompt": "Hi", "temperature": 1, "messages": "mine"}))
    assert request == Request(model="m", messages=(ASKED,), stream=True, temperature=1)


# --- mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": {}}, "messages"),
    ({"messages": [{"role": "tool", "parts": []}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].parts"),
    ({"messages": [{"role": "user", "parts": {}}]}, "messages[0].parts"),
    ({"messages": [{"role": "user", "parts": [7]}]}, "messages[0].parts[0]"),
    ({"messages": [{"role": "user", "parts": [{}]}]}, "messages[0].parts[0].type"),
    ({"messages": [{"role": "user", "parts": [{"type": "text"}]}]}, "messages[0].parts[0].text"),
    ({"messages": [{"role": "user", "parts": [call("t", "input-available")]}]}, "messages[0].parts[0].type"),
    ({"messages": [HI, assistant({"type": "tool-f", "state": "input-available"})]}, "messages[1].parts[0].toolCallId"),
    ({"messages": [HI, assistant(call("t", "done"))]}, "messages[1].parts[0].state"),
    ({"messages": [HI, assistant(call("t", "input-available", "tool-"))]}, "messages[1].parts[0].type"),
    ({"messages": [HI, assistant(call("t", "input-available", "dynamic-tool"))]}, "messages[1].parts[0].toolName"),
    ({"messages": [HI, assistant({"type": "steering-message", "parts": 1})]}, "messages[1].parts[0].parts"),
    ({"messages": [{"role": "system", "parts": [said("a")]}]}, "messages"),
    ({"messages": [assistant(STEP)]}, "messages"),
    ({"model": 7}, "model"),
    ({"model": "x" * 513}, "model"),
    ({"system": 7}, "system"),
    ({"temperature": 3}, "temperature"),
    ({"maxOutputTokens": -1}, "maxOutputTokens"),
    ({"maxOutputTokens": 10**40}, "maxOutputTokens"),
    ({"topP": "1"}, "topP"),
    ({"seed": 1.5}, "seed"),
    ({"tools": "f"}, "tools"),
    ({"tools": {"f": 7}}, "tools.f"),
    ({"tools": [{}]}, "tools[0].name"),
    ({"toolChoice": "some"}, "toolChoice"),
    ({"toolChoice": {"type": "tool"}}, "toolChoice"),
    ({"responseFormat": {"type": "xml"}}, "responseFormat.type"),
    ({"stream": "no"}, "stream"),
    ({"streamProtocol": "xml"}, "streamProtocol"),
]


@pytest.mark.parametrize(("more", "param"), MISTAKES, ids=lambda value: str(value)[:60])
def test_a_mistake_is_named(more: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        chat(**more)
    assert caught.value.param == param


def test_a_message_that_is_too_deep_is_refused() -> None:
    deep = b'{"model": "m", "messages": [{"role": "assistant", "parts": [' + b'{"type": "data-x", "data": '
    body = deep + b"[" * 3000 + b"]" * 3000 + b"}]}]}"
    with pytest.raises(BadRequest):
        CHAT.read_request(read_fields(body))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "type",
                        "text",
                        "toolCallId",
                        "state",
                        "input",
                        "url",
                        "providerMetadata",
                        "callProviderMetadata",
                        "approval",
                        "parts",
                    ]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=12,
    )
)
def test_no_part_breaks_the_reading(part: Any) -> None:
    parts = [
        part
        if isinstance(part, dict)
        else {"type": "tool-f", "toolCallId": "t", "state": "output-available", "input": part, "output": part}
    ]
    for kind in ("text", "reasoning", "file", "tool-f", "dynamic-tool", "steering-message", "x"):
        try:
            request = chat(HI, assistant({"type": kind, **parts[0]}))
        except BadRequest:
            continue
        assert request.messages[0] == ASKED


# --- which message goes on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "a1"),
        ({"messageId": "a1"}, "a1"),
        ({"messageId": "gone"}, "a1"),
        ({"messageId": "u1"}, None),
        ({"trigger": "regenerate-message"}, None),
        ({"trigger": "regenerate-message", "messageId": "a1"}, None),
        ({"messages": [HI]}, None),
        ({"messages": []}, None),
        ({"messages": [{"role": "assistant"}]}, None),
        ({"messages": [{"role": "assistant", "id": "x" * 513}]}, None),
        ({"messages": [{"role": "assistant", "id": 7}]}, None),
        ({"messages": 7}, None),
    ],
    ids=str,
)
def test_a_reply_goes_on_with_the_assistants_message(more: dict[str, Any], expected: str | None) -> None:
    assert continued(fields({"messages": [HI, assistant(said("a"))], "trigger": "submit-message", **more})) == expected
