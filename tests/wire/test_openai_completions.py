"""Text completions: a prompt is one user message, and text all there is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidegate.contract.meaning import (
    End,
    Finish,
    ImageContent,
    Message,
    OpaqueContent,
    Part,
    Reasoning,
    Report,
    Request,
    Start,
    Text,
    TextContent,
    ToolCall,
    Usage,
)
from sidegate.errors import BadRequest, ProviderError, ReplyError
from sidegate.wire import sse
from sidegate.wire.body import read_fields, write_fields
from sidegate.wire.dialect import Dialect, Envelope, Sign
from sidegate.wire.openai_completions.dialect import OpenAICompletions
from tests.wire.openai_saying import payloads, reported, said, split

completions: Dialect = OpenAICompletions()
ENVELOPE = Envelope(id="1", model="asked", created=7)
USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def event(text: str | None = None, index: int = 0, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if text is None else [{"text": text, "index": index, "logprobs": None, "finish_reason": finish}]
    return sse.frame(json.dumps({"id": "c", "model": "m", "choices": choices, **more}).encode())


def read(**request: Any) -> Request:
    return completions.read_request(read_fields(json.dumps({"model": "m", **request}).encode()))


def test_a_stream_is_measured() -> None:
    meter = completions.meter()
    events = [
        b": ping\n\n",
        event(""),
        event("é"),
        event(""),
        event("", finish="length"),
        event(usage=USAGE),
        b"data: [DONE]\n\n",
    ]
    assert [meter.event(one) for one in events] == [
        Sign.NOTHING,
        Sign.LEAD_IN,
        Sign.CONTENT,
        Sign.OTHER,
        Sign.CONTENT,
        Sign.USAGE,
        Sign.END,
    ]
    assert (meter.usage, meter.finish, meter.finished) == (Usage(3, 5), "length", True)
    assert (meter.output_bytes, meter.id, meter.model) == (2, "c", "m")


def test_every_choice_must_finish() -> None:
    meter = completions.meter()
    for one in (event("a", 0), event("b", 1), event("", 0, "stop")):
        meter.event(one)
    assert not meter.finished
    meter.event(event("", 1, "stop"))
    assert meter.finished


@pytest.mark.parametrize("data", [b"x", b"[]", b'{"choices": 3}', b'{"choices": [{"index": -1}]}', b"[" * 100_000])
def test_what_is_no_event_is_a_bad_reply(data: bytes) -> None:
    for read in (completions.meter().event, completions.read_event):
        with pytest.raises(ReplyError):
            read(b"data: " + data + b"\n\n")


def test_a_failure_inside_the_reply_is_raised() -> None:
    error = {"error": {"message": "m", "code": 429}}
    with pytest.raises(ProviderError) as raised:
        completions.meter().event(sse.frame(json.dumps(error).encode()))
    assert raised.value.status == 429
    with pytest.raises(ProviderError) as raised:
        completions.meter().whole(json.dumps(error).encode())
    assert raised.value.status == 429
    with pytest.raises(ReplyError):
        completions.meter().whole(b"{}")


PARTS: list[Part] = [
    Start("p", "real", 9),
    Text("a"),
    Text("c", 1),
    Text("b"),
    Finish("stop"),
    Finish("length", 1),
    Report(Usage(3, 5)),
    End(),
]


def test_a_stream_written_and_read_says_the_same() -> None:
    raw = completions.encoder(ENVELOPE).encode(PARTS)
    again = [part for one in split(raw) for part in completions.read_event(one)]
    assert said(again) == said(PARTS)
    assert reported(again) == Usage(3, 5)
    chunks = payloads(raw)
    assert {(chunk["id"], chunk["object"], chunk["model"]) for chunk in chunks} == {("p", "text_completion", "real")}
    assert chunks[-1] == {
        "id": "p",
        "object": "text_completion",
        "created": 9,
        "model": "real",
        "choices": [],
        "usage": USAGE,
    }
    assert raw.endswith(b"data: [DONE]\n\n")


def test_what_is_no_text_is_left_out() -> None:
    raw = completions.encoder(ENVELOPE).encode([Reasoning("r"), ToolCall("{}", "x", "f"), Text("a")])
    [chunk] = payloads(raw)
    assert chunk["id"] == "cmpl-1"
    assert chunk["choices"] == [{"text": "a", "index": 0, "logprobs": None, "finish_reason": None}]


def test_gathering_and_splitting_are_inverse_in_meaning() -> None:
    assembler = completions.assembler(ENVELOPE)
    assembler.add(PARTS)
    body = assembler.body()
    again = completions.read_whole(body)
    assert said(again) == said(PARTS)
    assert (again[0], reported(again), again[-1]) == (PARTS[0], Usage(3, 5), End())
    meter = completions.meter()
    meter.whole(body)
    assert (meter.usage, meter.finish, meter.output_bytes, meter.finished) == (Usage(3, 5), "stop", 3, True)
    assert assembler.body(body) == body


def test_an_edit_keeps_unknown_fields_and_drops_the_copies() -> None:
    choice = {"text": "secret", "index": 0, "logprobs": {"tokens": ["secret"]}, "finish_reason": "eos", "x": 1}
    base = json.dumps({"id": "c", "choices": [choice], "y": 2}).encode()
    assembler = completions.assembler(ENVELOPE)
    assembler.add([Text("***"), Finish("stop"), End()])
    assert json.loads(assembler.body(base)) == {
        "id": "c",
        "choices": [{"text": "***", "index": 0, "finish_reason": "eos", "x": 1}],
        "y": 2,
    }


@pytest.mark.parametrize("prompt", ["one", ["one", "two"], [1, 2, 3], [[1, 2], [3]], ["one", [3]]])
def test_a_prompt_is_read_and_written_again(prompt: Any) -> None:
    request = read(prompt=prompt, max_tokens=5, stop="END", n=2, echo=True)
    assert [message.role for message in request.messages] == ["user"]
    assert (request.max_tokens, request.stop, request.choices, request.extra) == (5, ("END",), 2, {"echo": True})
    dropped: list[str] = []
    body = completions.write_request(request, dropped)
    assert json.loads(json.dumps(body)) == {"model": "m", "prompt": prompt, "max_tokens": 5, "stop": ["END"], "n": 2}
    assert dropped == ["echo"]


def test_a_prompt_of_text_can_be_seen_by_a_guard() -> None:
    assert read(prompt=["one", "two"]).messages == (Message("user", (TextContent("one"), TextContent("two"))),)
    assert read(prompt=[1, 2]).messages == (Message("user", (OpaqueContent("openai.tokens", (1, 2)),)),)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [{}]}, "prompt[0]"),
        ({"prompt": [1, "a"]}, "prompt[1]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": "x", "max_tokens": -1}, "max_tokens"),
    ],
)
def test_a_wrong_field_is_a_400_that_names_it(request_: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read(**request_)
    assert raised.value.param == param


def test_a_conversation_becomes_one_prompt() -> None:
    request = Request(
        model="m",
        messages=(
            Message("system", (TextContent("be good"),)),
            Message("user", (TextContent("hi"), ImageContent(url="https://x"))),
        ),
        top_k=3,
        reasoning_effort="low",
    )
    dropped: list[str] = []
    assert completions.write_request(request, dropped)["prompt"] == "be good\n\nhi"
    assert sorted(dropped) == ["image", "reasoning_effort", "top_k"]


def test_a_stream_is_asked_for_its_usage() -> None:
    fields = read_fields(b'{"model": "m", "prompt": "x", "stream": true}')
    adapted = json.loads(write_fields(completions.adapt(fields, model="real", stream=True)))
    assert adapted == {"model": "real", "prompt": "x", "stream": True, "stream_options": {"include_usage": True}}
