"""The AI SDK's UI messages, written: what is said is what a page reads, as a stream, as a body and as plain text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from sidegate.contract.meaning import (
    BlockEnd,
    Citation,
    Comment,
    End,
    Finish,
    FinishReason,
    Opaque,
    Part,
    Reasoning,
    ReasoningContent,
    RefusalText,
    Report,
    Start,
    Text,
    TextContent,
    ToolCall,
    ToolUse,
    Usage,
)
from sidegate.errors import Cancelled, Ending, Refusal
from sidegate.wire.anthropic.block import read_citation
from sidegate.wire.registry import DIALECTS
from sidegate.wire.ui.dialect import UIMessages, UIText
from tests.wire.anthropic_reading import replies
from tests.wire.recordings import Case, parameters
from tests.wire.saying import ENVELOPE, assembled, flat, said, written
from tests.wire.ui_reading import READ_BY, as_history, chunks, kinds, read, said_by

UI = DIALECTS["ai_sdk.ui_messages"]
PROVIDERS = (
    "anthropic",
    "azure",
    "deepseek",
    "gemini",
    "groq",
    "mistral",
    "openai",
    "openai-compatible",
    "openrouter",
    "vertex",
    "xai",
)
# One recording holds two responses, the second of which nobody reads.
TWO = "responses-stream-multi-message"
STREAMS = parameters(
    *(f"{provider}/" for provider in PROVIDERS),
    only=lambda case: case.good and case.stream and case.dialect in READ_BY and TWO not in case.name,
)
FINISHES = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "content_filter": "content-filter",
    "refusal": "content-filter",
    "error": "error",
    "other": "other",
}


def stream(*parts: Part, ends: bool = True) -> bytes:
    last: list[Part] = [Finish("stop"), End()] if ends else []
    return written(UI, [[part] for part in (*parts, *last)])


def body(*parts: Part) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(assembled(UI, [[*parts, Finish("stop"), End()]]))
    return found


# --- what providers said ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", STREAMS)
def test_a_recorded_stream_is_read_by_a_page(case: Case) -> None:
    batches = said_by(case)
    if not any(isinstance(part, End) for part in flat(batches)):
        batches.append((End(),))
    told, seen = said(flat(batches)), read(written(UI, batches))
    assert seen.ended
    assert (seen.texts(), seen.texts("reasoning")) == (told.text + told.refusal, told.reasoning)
    assert [(name, given) for _, name, given in seen.calls] == [(name, given) for _, name, given in told.calls]
    assert all(id == was for (id, _, _), (was, _, _) in zip(seen.calls, told.calls, strict=True) if was)
    assert seen.finish == FINISHES[told.finish or "stop"]
    if told.usage is not None:
        assert seen.usage is not None
        assert seen.usage.get("inputTokens") == told.usage.input_tokens
        assert seen.usage.get("outputTokens") == told.usage.output_tokens
        assert seen.usage["inputTokenDetails"].get("cacheReadTokens") == told.usage.cache_read_tokens
        assert seen.usage["outputTokenDetails"].get("reasoningTokens") == told.usage.reasoning_tokens


@pytest.mark.parametrize("case", STREAMS)
def test_a_recorded_stream_comes_back_as_what_was_said(case: Case) -> None:
    batches = said_by(case)
    told = said(flat(batches))
    message = json.loads(assembled(UI, [*batches, (End(),)]))
    asked = UI.read_request(as_history(message))
    back = [piece for turn in asked.messages if turn.role == "assistant" for piece in turn.content]
    assert "".join(piece.text for piece in back if isinstance(piece, TextContent)) == told.text + told.refusal
    thoughts = [piece for piece in back if isinstance(piece, ReasoningContent)]
    assert "".join(thought.text for thought in thoughts) == told.reasoning
    calls = [(piece.name, json.loads(piece.arguments)) for piece in back if isinstance(piece, ToolUse)]
    assert calls == [(name, given) for _, name, given in told.calls if isinstance(given, dict)]
    signed = {(part.signature, part.vendor) for part in flat(batches) if isinstance(part, Reasoning) and part.signature}
    assert {(thought.signature, thought.vendor) for thought in thoughts if thought.signature} == signed


@given(replies())
def test_any_reply_is_the_same_as_a_stream_and_as_a_body(batches: list[list[Part]]) -> None:
    seen, whole = read(written(UI, batches)), json.loads(assembled(UI, batches))
    told = said(flat(batches))
    assert whole["metadata"].pop("finishReason") == seen.finish
    assert whole == seen.message
    assert (seen.texts(), seen.texts("reasoning")) == (told.text, told.reasoning)
    assert sorted(map(str, seen.calls)) == sorted(map(str, told.calls))


# --- chunks -----------------------------------------------------------------------------------------------------------


def test_a_stream_has_its_frame_whatever_comes_first() -> None:
    firsts: list[list[Part]] = [[], [Start("id", "real")], [Report(Usage(1, 2))], [Comment("waits")]]
    for first in firsts:
        found = kinds(stream(*first, Text("Hi")))
        assert found == ["start", "start-step", "text-start", "text-delta", "text-end", "finish-step", "finish"]
    assert stream(Text("Hi")).endswith(b"data: [DONE]\n\n")


def test_nothing_follows_the_end() -> None:
    assert written(UI, [[End()], [Text("late"), End()]]) == written(UI, [[End()]])
    assert kinds(written(UI, [[End()]])) == ["start", "start-step", "finish-step", "finish"]


def test_each_batch_is_told_at_once() -> None:
    encoder = UI.encoder(ENVELOPE)
    assert kinds(encoder.encode([Start("id", "real")])) == ["start", "start-step"]
    assert kinds(encoder.encode([Text("a")])) == ["text-start", "text-delta"]
    assert kinds(encoder.encode([Text("b"), Text("c")])) == ["text-delta", "text-delta"]


def test_a_message_bears_the_call_and_the_model_that_answers() -> None:
    (first, *_) = chunks(stream(Start("id", "real"), Text("Hi")))
    assert first["messageId"] == "msg_call1"
    assert first["messageMetadata"] == {"callId": "call1", "model": "real"}
    (unnamed, *_) = chunks(stream(Text("Hi")))
    assert unnamed["messageMetadata"]["model"] == ENVELOPE.model


def test_a_reply_that_goes_on_with_a_message_keeps_its_id() -> None:
    encoder = UIMessages("msg_before").encoder(ENVELOPE)
    assert chunks(encoder.encode([Text("Hi")]))[0]["messageId"] == "msg_before"


def test_empty_text_opens_nothing() -> None:
    assert "text-start" not in kinds(stream(Text(""), RefusalText(""), Reasoning("")))


def test_other_choices_are_not_said() -> None:
    assert read(stream(Text("a"), Text("b", 1), ToolCall("{}", "t", "f", 1), Finish("length", 1))).texts() == "a"


def test_blocks_are_parts() -> None:
    seen = read(stream(Text("a", block=1), BlockEnd(block=1), Text("b", block=2), RefusalText("no", block=3)))
    assert [part["text"] for part in seen.parts[1:]] == ["a", "b", "no"]


def test_what_an_edit_held_back_goes_into_the_text_it_is_of() -> None:
    seen = read(
        written(UI, [[Text("He", block=1)], [BlockEnd(block=1), Finish("stop")], [Text("y", block=1)], [End()]])
    )
    assert [part["text"] for part in seen.parts[1:]] == ["Hey"]


@pytest.mark.parametrize("reason", FINISHES)
def test_a_finish_reason_is_one_that_both_versions_read(reason: FinishReason) -> None:
    assert read(stream(Text("a"), Finish(reason), End(), ends=False)).finish == FINISHES[reason]


def test_text_is_text_whatever_it_looks_like() -> None:
    for text in ("data: [DONE]\n\n", '"},{"type":"error"', "\u2028\u0085\r\n", "🦊\x00", "</script>"):
        assert read(stream(Text(text))).texts() == text


def test_a_comment_is_a_comment() -> None:
    seen = read(stream(Text("a"), Comment("cost 1\nevent: x")))
    assert seen.comments == ["cost 1 event: x"]


# --- thinking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vendor", "metadata"),
    [
        ("anthropic", {"anthropic": {"signature": "sig"}}),
        ("gemini", {"google": {"thoughtSignature": "sig"}}),
        ("openai", {"openai": {"reasoningEncryptedContent": "sig"}}),
        (None, {"sidegate": {"signature": "sig"}}),
    ],
)
def test_a_signature_stands_at_the_end_of_its_thinking(vendor: str | None, metadata: dict[str, Any]) -> None:
    """By the name that the SDK's own provider of its vendor gives it."""
    parts: list[Part] = [
        Reasoning("Hm", block=0),
        Reasoning(block=0, signature="sig", vendor=vendor),
        BlockEnd(block=0),
        Text("Hi", block=1),
    ]
    ends = [chunk for chunk in chunks(stream(*parts)) if chunk["type"] == "reasoning-end"]
    assert ends == [{"type": "reasoning-end", "id": ends[0]["id"], "providerMetadata": metadata}]


def test_thinking_ends_where_something_else_begins() -> None:
    others: list[Part] = [Text("a", block=1), ToolCall("{}", "t", "f", block=2), Reasoning("b", block=3)]
    for then in others:
        found = kinds(stream(Reasoning("a", block=0), then))
        assert found.index("reasoning-end") == 4


def test_thinking_that_is_sealed_is_a_part_of_its_own() -> None:
    seen = read(stream(Reasoning("a", block=0), Reasoning(block=1, redacted="xyz"), Text("b", block=2)))
    sealed = seen.parts[2]
    assert (sealed["type"], sealed["text"]) == ("reasoning", "")
    assert sealed["providerMetadata"] == {"anthropic": {"redactedData": "xyz"}}


def test_a_signature_alone_stands_at_the_call_that_follows() -> None:
    parts: list[Part] = [Text("a", block=1), Reasoning(block=2, signature="sig"), ToolCall("{}", "t", "f", block=3)]
    seen = read(stream(*parts, ToolCall("{}", "u", "g", block=4)))
    assert [part["type"] for part in seen.parts] == ["step-start", "text", "tool-f", "tool-g"]
    assert seen.parts[2]["callProviderMetadata"] == {"sidegate": {"signature": "sig"}}
    assert "callProviderMetadata" not in seen.parts[3]


def test_a_signature_alone_stands_at_the_text_before() -> None:
    seen = read(stream(Text("a", block=1), Reasoning(block=2, signature="s"), Text("b", block=1)))
    assert [(part["text"], "providerMetadata" in part) for part in seen.parts[1:]] == [("a", True), ("b", False)]
    last = read(stream(Text("a", block=1), Reasoning(block=2, signature="s"))).parts[-1]
    assert last["providerMetadata"] == {"sidegate": {"signature": "s"}}


def test_a_signature_with_nothing_round_it_is_thinking_without_words() -> None:
    alone: list[list[Part]] = [[Reasoning(signature="s")], [Reasoning(signature="s"), BlockEnd(), Text("a", block=1)]]
    for parts in alone:
        first = read(stream(*parts)).parts[1]
        assert (first["type"], first["text"]) == ("reasoning", "")
        assert first["providerMetadata"] == {"sidegate": {"signature": "s"}}


# --- calls ------------------------------------------------------------------------------------------------------------


def test_a_call_is_told_while_it_is_said_and_once_it_is_whole() -> None:
    found = chunks(stream(ToolCall("", "t1", "f"), ToolCall('{"a"'), ToolCall(": 1}"), BlockEnd()))[2:6]
    assert found == [
        {"type": "tool-input-start", "toolCallId": "t1", "toolName": "f"},
        {"type": "tool-input-delta", "toolCallId": "t1", "inputTextDelta": '{"a"'},
        {"type": "tool-input-delta", "toolCallId": "t1", "inputTextDelta": ": 1}"},
        {"type": "tool-input-available", "toolCallId": "t1", "toolName": "f", "input": {"a": 1}},
    ]


def test_calls_may_be_said_side_by_side() -> None:
    parts = [ToolCall("{", "a", "f", block=3), ToolCall("{", "b", "g", block=4), ToolCall("}", block=3)]
    seen = read(stream(*parts, ToolCall("}", block=4)))
    assert seen.calls == [("a", "f", {}), ("b", "g", {})]


def test_a_call_that_ends_with_its_block_need_not_wait_for_the_others() -> None:
    found = kinds(stream(ToolCall("{}", "a", "f", block=1), BlockEnd(block=1), ToolCall("{}", "b", "g", block=2)))
    assert found.index("tool-input-available") < len(found) - 1 - found[::-1].index("tool-input-start")


def test_arguments_that_are_no_json_are_an_error_of_the_call() -> None:
    seen = read(stream(ToolCall('{"city": "Os', "t", "f"), Finish("length"), End(), ends=False))
    assert seen.parts[1]["state"] == "output-error"
    assert seen.parts[1]["input"] == '{"city": "Os'
    assert seen.finish == "length"


def test_arguments_that_are_too_deep_are_an_error_of_the_call() -> None:
    seen = read(stream(ToolCall("[" * 100_000, "t", "f")))
    assert seen.parts[1]["state"] == "output-error"


def test_a_call_without_arguments_has_an_empty_object() -> None:
    assert read(stream(ToolCall("", "t", "f"))).calls == [("t", "f", {})]


def test_a_call_without_an_id_is_given_one_and_two_are_never_the_same() -> None:
    seen = read(
        stream(ToolCall("{}", None, "f", block=1), ToolCall("{}", "x", "g", block=2), ToolCall("{}", "x", "h", 0, 3))
    )
    ids = [id for id, _, _ in seen.calls]
    assert len(set(ids)) == 3
    assert all(ids)


def test_pieces_of_no_call_are_not_said() -> None:
    assert read(stream(ToolCall("{}", block=7))).calls == []


# --- sources and files ------------------------------------------------------------------------------------------------

CITED = {"type": "web_search_result_location", "url": "https://a.example/", "title": "A", "cited_text": "said"}
ASIDE: list[tuple[Opaque | Citation, dict[str, Any] | None]] = [
    (read_citation(CITED, 0), {"type": "source-url", "url": "https://a.example/", "title": "A"}),
    (
        read_citation({"type": "page_location", "document_index": 1}, 0),
        {"type": "source-document", "mediaType": "application/pdf", "title": "Document 1"},
    ),
    (Citation("http://b.example"), {"type": "source-url", "url": "http://b.example"}),
    (
        Citation(title="f.txt", origin="openai.responses", data={"type": "file_citation", "filename": "f.txt"}),
        {"type": "source-document", "mediaType": "text/plain", "title": "f.txt", "filename": "f.txt"},
    ),
    (
        Opaque(
            "gemini.candidate", data={"groundingMetadata": {"groundingChunks": [{"web": {"uri": "https://c.example"}}]}}
        ),
        {"type": "source-url", "url": "https://c.example"},
    ),
    (
        Opaque("gemini.part", data={"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
        {"type": "file", "url": "data:image/png;base64,AAAA", "mediaType": "image/png"},
    ),
    (
        Opaque("responses.item_done", data={"type": "image_generation_call", "result": "AAAA"}),
        {"type": "file", "url": "data:image/png;base64,AAAA", "mediaType": "image/png"},
    ),
    (Opaque("openai.annotations", data=[{"type": "url_citation", "url": "javascript:alert(1)"}]), None),
    (Citation("javascript:alert(1)"), None),
    (read_citation({"url": 7, "document_index": None, "title": None}, 0), None),
    (Opaque("openai.annotations", data={"url": "https://a.example"}), None),
    (Opaque("gemini.part", data={"inlineData": {"data": 7}}), None),
    (Opaque("whatever", data=None), None),
]


@pytest.mark.parametrize(("part", "expected"), ASIDE, ids=str)
def test_what_a_reply_rests_on_is_a_part(part: Opaque | Citation, expected: dict[str, Any] | None) -> None:
    found = read(stream(Text("a"), part)).parts[2:]
    for chunk in found:
        chunk.pop("sourceId", None)
    assert found == ([] if expected is None else [expected])
    assert body(Text("a"), part)["parts"][2:] == read(stream(Text("a"), part)).parts[2:]
    assert b"javascript" not in stream(part)


def test_a_source_is_told_once() -> None:
    part = read_citation(CITED, 0)
    assert kinds(stream(Text("a"), part, Text("b"), part)).count("source-url") == 1


# --- usage ------------------------------------------------------------------------------------------------------------


def test_usage_is_a_language_model_usage() -> None:
    usage = Usage(100, 20, 60, 10, 5, 3, 2)
    assert read(stream(Text("a"), Report(usage))).usage == {
        "inputTokens": 100,
        "outputTokens": 20,
        "totalTokens": 120,
        "inputTokenDetails": {"noCacheTokens": 30, "cacheReadTokens": 60, "cacheWriteTokens": 10, "audioTokens": 3},
        "outputTokenDetails": {"textTokens": 15, "reasoningTokens": 5, "audioTokens": 2},
    }


def test_what_was_not_counted_is_left_out() -> None:
    usage = read(stream(Text("a"), Report(Usage(output_tokens=2)))).usage
    assert usage == {"outputTokens": 2, "inputTokenDetails": {}, "outputTokenDetails": {}}
    assert read(stream(Text("a"))).usage is None


def test_usage_that_is_told_twice_is_merged() -> None:
    usage = read(stream(Report(Usage(10)), Text("a"), Report(Usage(None, 5)), Report(Usage(None, 7)))).usage
    assert usage is not None
    assert (usage["inputTokens"], usage["outputTokens"], usage["totalTokens"]) == (10, 7, 17)


# --- failures, and plain text -----------------------------------------------------------------------------------------


def test_an_error_is_its_message() -> None:
    error = Refusal(429, "too_many", "Slow dówn.")
    assert UI.write_error(error, "id").decode() == "Slow dówn."
    assert chunks(UI.write_error_event(error, "id")) == [{"type": "error", "errorText": "Slow dówn."}]


def test_a_call_that_was_stopped_on_purpose_is_no_error() -> None:
    stopped = UI.write_error_event(Cancelled(Ending.CANCELLED), "id")
    assert chunks(stopped) == [{"type": "abort", "reason": "The call was cancelled."}]


def test_plain_text_is_what_the_first_choice_says() -> None:
    encoder = UIText("ai_sdk.ui_messages").encoder(ENVELOPE)
    parts: list[Part] = [
        Start("id"),
        Reasoning("hm"),
        Text("Hé "),
        Text("no", 1),
        ToolCall("{}", "t", "f"),
        RefusalText("🦊"),
    ]
    assert encoder.encode([*parts, Comment("x"), Finish("stop"), End(), Text("late")]).decode() == "Hé 🦊"
    assert encoder.encode([Text("later")]) == b""
