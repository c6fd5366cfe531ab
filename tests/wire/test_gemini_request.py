"""Requests of Gemini: read in both cases, written for it, and changed field by field."""

from __future__ import annotations

import json
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
from sidegate.errors import BadRequest, ProviderError, Refusal
from sidegate.wire.body import encode, read_fields, write_fields
from sidegate.wire.gemini.content import UNSIGNED
from sidegate.wire.gemini.errors import read_error, write_error
from sidegate.wire.gemini.path import located
from sidegate.wire.registry import DIALECTS
from tests.wire.gemini_reading import GEMINI

HI: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


def read(body: dict[str, Any], model: str = "m", stream: bool = False) -> Request:
    return GEMINI.read_request(GEMINI.place(read_fields(json.dumps(body).encode()), model=model, stream=stream))


def sent(request: Request, dropped: list[str] | None = None) -> dict[str, Any]:
    """The body that a provider gets."""
    body = GEMINI.write_request(request, [] if dropped is None else dropped)
    fields = GEMINI.adapt({key: encode(value) for key, value in body.items()}, model="real", stream=request.stream)
    told: dict[str, Any] = json.loads(write_fields(fields))
    return told


def asked(*content: Any, model: str = "gemini-2.5-pro", **more: Any) -> Request:
    return Request(model=model, messages=(Message("user", content or (TextContent("hi"),)),), **more)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_both_cases_mean_the_same() -> None:
    camel = {
        **HI,
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {"maxOutputTokens": 5, "topK": 2.0, "thinkingConfig": {"thinkingBudget": 9}},
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}],
    }
    snake = {
        **HI,
        "system_instruction": {"parts": {"text": "Be brief."}},
        "generation_config": {"max_output_tokens": 5, "top_k": 2, "thinking_config": {"thinking_budget": 9}},
        "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f"]}},
        "tools": [{"function_declarations": [{"name": "f", "parameters_json_schema": {"type": "object"}}]}],
    }
    assert read(camel) == read(snake)
    assert read(camel).tool_choice == "tool:f"
    assert (read(camel).max_tokens, read(camel).top_k, read(camel).reasoning_tokens) == (5, 2, 9)


def test_the_path_says_the_model_and_the_stream() -> None:
    fields = GEMINI.place(read_fields(b'{"model": "x", "stream": 3, "contents": []}'), model="m", stream=True)
    assert (bytes(fields["model"]), bytes(fields["stream"])) == (b'"m"', b"true")
    assert "stream" not in GEMINI.place(fields, model="m", stream=False)
    assert GEMINI.adapt(fields, model="real", stream=True).keys() == {"contents"}


def test_results_answer_the_calls_of_their_name_in_order() -> None:
    def call(**more: Any) -> dict[str, Any]:
        return {"functionCall": {"name": "f", "args": {}, **more}}

    def result(value: Any, **more: Any) -> dict[str, Any]:
        return {"functionResponse": {"name": "f", "response": value, **more}}

    body = {
        "contents": [
            {"role": "model", "parts": [call(), call(id="own"), call()]},
            {
                "role": "function",
                "parts": [result({"output": "1"}), result({"a": 1}, id="own"), result({"error": "no"})],
            },
        ]
    }
    calls, results = read(body).messages
    ids = [piece.id for piece in calls.content if isinstance(piece, ToolUse)]
    assert ids == ["call_1", "own", "call_2"]
    assert results.content == (
        ToolResult("call_1", (TextContent("1"),)),
        ToolResult("own", (TextContent('{"a":1}'),)),
        ToolResult("call_2", (TextContent("no"),), is_error=True),
    )


def test_thinking_in_pieces_is_one_thought_and_signatures_are_in_the_alphabet_of_all() -> None:
    parts = [
        {"text": "a", "thought": True},
        {"text": "b", "thought": True},
        {"text": "", "thought": True, "thought_signature": "-_-_"},
        {"functionCall": {"name": "f"}, "thoughtSignature": "AAAA"},
        {"text": "says"},
        {"text": "", "thoughtSignature": "BBBB"},
    ]
    (message,) = read({"contents": [{"role": "model", "parts": parts}]}).messages
    assert message.content == (
        ReasoningContent("ab", "+/+/", None, "gemini"),
        ReasoningContent("", "AAAA", None, "gemini"),
        ToolUse("call_1", "f", "{}"),
        TextContent("says"),
        ReasoningContent("", "BBBB", None, "gemini"),
    )
    (turn,) = sent(Request(model="m", messages=(message,)))["contents"]
    assert turn["parts"] == [
        {"text": "ab", "thought": True, "thoughtSignature": "+/+/"},
        {"functionCall": {"name": "f", "args": {}, "id": "call_1"}, "thoughtSignature": "AAAA"},
        {"text": "says"},
        {"text": "", "thoughtSignature": "BBBB"},
    ]


def test_media_are_what_they_are() -> None:
    parts = [
        {"inlineData": {"mimeType": "image/png", "data": "-_8="}},
        {"inline_data": {"mime_type": "application/pdf", "data": "AAAA", "display_name": "a.pdf"}},
        {"fileData": {"fileUri": "https://example.com/a.png", "mimeType": "image/png"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x", "mimeType": "video/mp4"}},
        {"executableCode": {"code": "1"}},
    ]
    (message,) = read({"contents": {"parts": parts}}).messages
    assert message.content == (
        ImageContent(data="+/8=", media_type="image/png"),
        FileContent(data="AAAA", media_type="application/pdf", name="a.pdf"),
        ImageContent(url="https://example.com/a.png", media_type="image/png"),
        FileContent(file_id="https://generativelanguage.googleapis.com/v1beta/files/x", media_type="video/mp4"),
        OpaqueContent("gemini.part", {"executableCode": {"code": "1"}}),
    )
    assert len(sent(Request(model="m", messages=(message,)))["contents"][0]["parts"]) == 5


@pytest.mark.parametrize("kind", [{}, {"responseMimeType": "text/plain"}])
def test_a_schema_for_text_is_a_field_without_a_word(kind: dict[str, str]) -> None:
    request = read({**HI, "generationConfig": {"responseSchema": {"type": "OBJECT"}, **kind}})
    assert request.response_format is None
    assert request.extra["generationConfig.responseSchema"] == {"type": "object"}


def test_schemas_are_read_as_json_schema() -> None:
    schema = {
        "type": "OBJECT",
        "nullable": True,
        "properties": {
            "a": {"type": "ARRAY", "items": {"type": "STRING"}, "min_items": "2"},
            "nullable": {"type": "STRING"},
        },
        "propertyOrdering": ["a"],
        "any_of": [{"type": "INTEGER"}],
    }
    body = {**HI, "generationConfig": {"responseMimeType": "application/json", "responseSchema": schema}}
    assert read(body).response_format == ResponseFormat(
        "json_schema",
        {
            "type": ["object", "null"],
            "properties": {
                "a": {"type": "array", "items": {"type": "string"}, "minItems": 2},
                "nullable": {"type": "string"},
            },
            "anyOf": [{"type": "integer"}],
        },
    )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": [{"role": "robot", "parts": []}]}, "contents[0].role"),
        ({"contents": [{"parts": ["x"]}]}, "contents[0].parts[0]"),
        ({"contents": [{"parts": [{"inlineData": {"mimeType": "a/b"}}]}]}, "contents[0].parts[0].inlineData.data"),
        ({"contents": [{"parts": [{"functionCall": {}}]}]}, "contents[0].parts[0].functionCall.name"),
        ({**HI, "generationConfig": {"temperature": 3}}, "generationConfig.temperature"),
        ({**HI, "generationConfig": {"maxOutputTokens": -1}}, "generationConfig.maxOutputTokens"),
        ({**HI, "generationConfig": {"topP": 1, "top_p": 0}}, "top_p"),
        ({**HI, "generationConfig": 3}, "generationConfig"),
        ({**HI, "tools": [{"functionDeclarations": [{}]}]}, "tools[0].functionDeclarations[0].name"),
        ({**HI, "tools": [3]}, "tools[0]"),
        ({**HI, "toolConfig": 3}, "toolConfig"),
        (
            {**HI, "tools": [{"functionDeclarations": [{"name": "f", "parameters": 3}]}]},
            "tools[0].functionDeclarations[0].parameters",
        ),
    ],
)
def test_a_mistake_names_its_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read(body)
    assert raised.value.param == param


def test_deep_nesting_is_a_mistake_and_no_fault() -> None:
    schema: dict[str, Any] = {}
    for _ in range(300):
        schema = {"items": schema}
    with pytest.raises(BadRequest):
        read({**HI, "tools": [{"functionDeclarations": [{"name": "f", "parameters": schema}]}]})


# --- writing ----------------------------------------------------------------------------------------------------------


def test_what_has_no_counterpart_is_named() -> None:
    dropped: list[str] = []
    request = asked(
        TextContent("x"),
        FileContent(file_id="file-abc"),
        OpaqueContent("openai.input_audio", {}),
        user="u",
        metadata={"a": "b"},
        seed=2**40,
        parallel_tool_calls=False,
        tools=(Tool("f", None, None, True),),
        extra={"logit_bias": {}, "tools": [{"type": "web_search"}]},
    )
    body = sent(request, dropped)
    assert set(dropped) == {
        "messages.content.file",
        "messages.content.openai.input_audio",
        "user",
        "metadata",
        "seed",
        "parallel_tool_calls",
        "tools.strict",
        "logit_bias",
        "tools",
    }
    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "x"}]}],
        "tools": [{"functionDeclarations": [{"name": "f"}]}],
    }


def test_turns_alternate_and_the_system_stands_apart() -> None:
    messages = (
        Message("system", (TextContent("a"),)),
        Message("user", (TextContent("1"),)),
        Message("system", (TextContent("b"),)),
        Message("user", (TextContent(""), TextContent("2"))),
        Message("assistant", (TextContent("3"),)),
    )
    body = sent(Request(model="m", messages=messages))
    assert body["systemInstruction"] == {"parts": [{"text": "a"}, {"text": "b"}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "1"}, {"text": "2"}]},
        {"role": "model", "parts": [{"text": "3"}]},
    ]


@pytest.mark.parametrize(
    ("model", "signed"), [("gemini-2.5-pro", False), ("gemini-3-pro", True), ("gemini-3.5-flash", True)]
)
def test_calls_without_a_signature_get_the_word_that_skips_the_check(model: str, signed: bool) -> None:
    calls = Message("assistant", (ToolUse("a", "f", "{}"), ToolUse("b", "f", "{}")))
    parts = sent(Request(model=model, messages=(calls,)))["contents"][0]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [UNSIGNED if signed else None, None]


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-2.5-flash", "low", {"includeThoughts": True, "thinkingBudget": 1024}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-3-pro", "low", {"includeThoughts": True, "thinkingLevel": "low"}),
        ("gemini-3-pro", "xhigh", {"includeThoughts": True, "thinkingLevel": "high"}),
    ],
)
def test_efforts_are_levels_or_budgets(model: str, effort: str, thinking: dict[str, Any]) -> None:
    assert sent(asked(model=model, reasoning_effort=effort))["generationConfig"]["thinkingConfig"] == thinking


def test_arguments_that_are_no_object_are_a_mistake() -> None:
    with pytest.raises(BadRequest):
        sent(asked(ToolUse("a", "f", "[1]")))


def changed(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """As the gateway patches a client's own body where a plugin asks for something else."""
    fields = GEMINI.place(read_fields(json.dumps(body).encode()), model="m", stream=False)
    before = GEMINI.read_request(fields)
    old, new = (GEMINI.write_request(each, []) for each in (before, replace(before, **changes)))
    fields = {**fields, **{key: encode(value) for key, value in new.items() if old.get(key) != value}}
    for key in old.keys() - new.keys():
        fields.pop(key, None)
    told: dict[str, Any] = json.loads(write_fields(GEMINI.adapt(fields, model="real", stream=False)))
    return told


def test_a_change_touches_its_field_and_no_other() -> None:
    config = {
        "max_output_tokens": 5,
        "temperature": 0.5,
        "responseSchema": {"type": "OBJECT", "propertyOrdering": ["b", "a"]},
        "responseMimeType": "application/json",
        "speechConfig": {"x": 1},
        "thinkingConfig": {"include_thoughts": True, "thinkingBudget": -1},
    }
    body = {**HI, "generation_config": config, "safetySettings": [{"a": 1}], "ofTomorrow": 1.0}
    told = changed(body, max_tokens=7, temperature=None)
    kept = {key: value for key, value in config.items() if key not in ("max_output_tokens", "temperature")}
    assert told == {
        **HI,
        "generationConfig": {**kept, "maxOutputTokens": 7},
        "safetySettings": [{"a": 1}],
        "ofTomorrow": 1.0,
    }
    assert changed(HI, max_tokens=7)["generationConfig"] == {"maxOutputTokens": 7}
    assert "generationConfig" not in changed({**HI, "generationConfig": {"temperature": 1}}, temperature=None)


def test_a_change_of_the_words_keeps_signatures_and_foreign_parts() -> None:
    parts = [{"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "AAAA"}, {"toolCall": {"x": 1}}]
    body = {"contents": [*HI["contents"], {"role": "model", "parts": parts}]}
    before = read(body).messages
    told = changed(body, messages=(Message("user", (TextContent("***"),)), *before[1:]))
    assert told["contents"][0]["parts"] == [{"text": "***"}]
    assert told["contents"][1]["parts"][0]["thoughtSignature"] == "AAAA"
    assert told["contents"][1]["parts"][1] == {"toolCall": {"x": 1}}


# --- paths, errors, the rest ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-2.5-pro", "/models/gemini-2.5-pro:generateContent"),
        ("models/x", "/models/x:generateContent"),
        ("tunedModels/x", "/tunedModels/x:generateContent"),
        ("a:b", "/models/a%3Ab:generateContent"),
        ("a?key=1#x y", "/models/a%3Fkey%3D1%23x%20y:generateContent"),
    ],
)
def test_a_model_is_one_place(model: str, path: str) -> None:
    assert located(model, "generateContent") == path


@pytest.mark.parametrize("model", ["", "..", "a/../b", "/a", "a//b", "models/..", "x" * 600])
def test_a_name_that_leads_elsewhere_is_none(model: str) -> None:
    with pytest.raises(BadRequest) as raised:
        located(model, "generateContent")
    assert raised.value.status == 404


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (404, "NOT_FOUND"),
        (415, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (502, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ],
)
def test_an_error_has_its_name_and_details(status: int, name: str) -> None:
    refusal = Refusal(status, "some_code", "No.", param="x", retry_after=1.2)
    error = json.loads(write_error(refusal, "call1"))["error"]
    assert (error["code"], error["status"], error["message"]) == (status, name, "No.")
    info, mistake, retry = error["details"]
    assert (info["reason"], info["metadata"]) == ("SOME_CODE", {"requestId": "call1"})
    assert mistake["fieldViolations"][0]["field"] == "x"
    assert retry["retryDelay"] == "2s"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"error": 3}', b'{"error": {"details": [3, {"retryDelay": "soon"}]}}']
)
def test_an_odd_error_body_says_nothing(body: bytes) -> None:
    error = read_error(429, {}, body)
    assert isinstance(error, ProviderError)
    assert (error.status, error.retry_after) == (429, None)


def test_a_header_goes_before_the_details() -> None:
    body = b'{"error": {"code": 429, "details": [{"retryDelay": "90s"}]}}'
    assert read_error(429, {"Retry-After": "5"}, body).retry_after == 5
    assert read_error(429, {}, body).retry_after == 90


def test_batches_of_embeddings_mean_several_texts() -> None:
    batch, single = DIALECTS["gemini.batch_embed"], DIALECTS["gemini.embed"]
    one = {"model": "models/x", "content": {"parts": [{"text": "a"}]}, "taskType": "T", "output_dimensionality": 3}
    body = {"requests": [one, {**one, "content": {"parts": {"text": "b"}}, "taskType": "U"}]}
    fields = batch.place(read_fields(json.dumps(body).encode()), model="m", stream=False)
    request = batch.read_request(fields)
    assert (request.input, request.dimensions, request.extra) == (("a", "b"), 3, {"taskType": ["T", "U"]})
    adapted = json.loads(write_fields(batch.adapt(fields, model="real", stream=False)))
    assert [each["model"] for each in adapted["requests"]] == ["models/real", "models/real"]
    written = batch.write_request(request, [])
    assert [each["taskType"] for each in written["requests"]] == ["T", "U"]
    alone = single.read_request(single.place(read_fields(json.dumps(one).encode()), model="m", stream=False))
    assert (alone.input, alone.dimensions) == (("a",), 3)
    with pytest.raises(BadRequest):
        batch.write_request(Request(model="m", input=((1, 2),)), [])
    with pytest.raises(BadRequest):
        single.write_request(request, [])


def test_a_count_may_hold_a_whole_request() -> None:
    count = DIALECTS["gemini.count_tokens"]
    body = {"generateContentRequest": {"model": "models/x", **HI, "systemInstruction": {"parts": [{"text": "s"}]}}}
    fields = count.place(read_fields(json.dumps(body).encode()), model="m", stream=False)
    assert [message.role for message in count.read_request(fields).messages] == ["system", "user"]
    adapted = json.loads(write_fields(count.adapt(fields, model="real", stream=False)))
    assert adapted["generateContentRequest"]["model"] == "models/real"
    written = msgspec.json.decode(msgspec.json.encode(count.write_request(asked(max_tokens=3), [])))
    assert written["generateContentRequest"]["generationConfig"] == {"maxOutputTokens": 3}


def test_a_turn_in_which_nothing_is_said_is_left_out() -> None:
    """OpenAI's clients send `"content": null` and `[]`; Gemini refuses a turn without parts."""
    turns = (Message("user", (TextContent("a"),)), Message("assistant", ()), Message("user", (TextContent("b"),)))
    assert sent(Request(model="m", messages=turns))["contents"] == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}
    ]
