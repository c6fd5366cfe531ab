"""Every recorded reply of the providers that speak Responses, through the whole layer and over to other dialects."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from openai.types.responses import Response, ResponseCustomToolCall, ResponseFunctionToolCall

from sidegate.contract.meaning import End, Finish, Reasoning, RefusalText, Start, Text, ToolCall
from sidegate.errors import BadRequest, ProviderError
from sidegate.wire import sse
from sidegate.wire.body import encode, read_fields, write_fields
from sidegate.wire.bound import check_translatable
from sidegate.wire.dialect import Sign
from sidegate.wire.registry import DIALECTS
from tests.wire.recordings import Case, parameters
from tests.wire.responses_reading import check_order, final, measured, payloads, responses, sdk_response
from tests.wire.saying import Said, assembled, changed, events, flat, reread, said, stream_parts, written

PROVIDERS = [f"{name}/responses-" for name in ("openai", "azure", "deepseek", "xai", "openrouter", "openresponses")]
STREAMS = parameters(*PROVIDERS, only=lambda case: case.good and case.stream)
WHOLES = parameters(*PROVIDERS, only=lambda case: case.good and not case.stream)
ASKED = parameters(*PROVIDERS, only=lambda case: case.asked and "decimal-below-min" not in case.name)
OTHERS = ("openai.chat", "anthropic.messages")
each_other = pytest.mark.parametrize("name", OTHERS)


@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_is_measured(case: Case) -> None:
    meter, batches, signs = measured(case.body)
    assert signs[-1] is Sign.END
    assert meter.started
    assert meter.finished
    first, last = payloads(case.body)[0]["response"], terminal(case.body)
    assert (meter.id, meter.model) == (first["id"], first["model"])
    assert meter.usage is not None
    assert meter.usage.input_tokens == last["usage"]["input_tokens"]
    assert meter.usage.output_tokens == last["usage"]["output_tokens"]
    told = said(flat(batches))
    assert (told.finish, told.usage) == (meter.finish, meter.usage)
    spoken = told.text + told.reasoning + "".join(part.arguments for part in flat(batches) if type(part) is ToolCall)
    assert meter.output_bytes >= len(spoken.encode())


@pytest.mark.parametrize("case", STREAMS)
def test_signs_and_parts_agree(case: Case) -> None:
    _, batches, signs = measured(case.body)
    for parts, sign in zip(batches, signs, strict=True):
        content = any(isinstance(part, Text | Reasoning | ToolCall | RefusalText) for part in parts)
        assert not content or sign is Sign.CONTENT
        assert any(isinstance(part, End | Finish) for part in parts) == (sign is Sign.END)


@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_read_and_written_again_says_the_same(case: Case) -> None:
    _, batches, _ = measured(case.body)
    again = written(responses, batches)
    assert said(flat(stream_parts(responses, again))) == said(flat(batches))
    check_order(again)
    before, after = terminal(case.body), final(again)
    after["output"], before["output"] = plain(after["output"]), plain(before["output"])
    if "shell-call" in case.name:  # Its pieces were shortened where it was taken from; the last word was not.
        del after["output"], before["output"]
    assert after == before


@pytest.mark.parametrize("case", STREAMS)
def test_events_of_unknown_kinds_go_on_in_their_places(case: Case) -> None:
    _, batches, signs = measured(case.body)
    kinds = [each["type"] for each in payloads(case.body)][: len(signs)]
    again = [each["type"] for each in payloads(written(responses, batches))]
    own = [kind for kind in kinds if "_call" in kind and "function_call" not in kind or "mcp" in kind]
    assert [kind for kind in again if kind in own] == own


@pytest.mark.parametrize("case", STREAMS)
def test_the_vendors_own_client_reads_what_is_written(case: Case) -> None:
    _, batches, _ = measured(case.body)
    told = said(flat(batches))
    response = sdk_response(written(responses, batches))
    assert response.output_text == told.text
    assert calls_of(response) == told.calls
    assert response.status == "completed"
    body = json.loads(assembled(responses, batches))
    # The newest client says that it demands it; what it was written by does not tell it.
    body["usage"]["input_tokens_details"].setdefault("cache_write_tokens", 0)
    if all(item["type"] != "apply_patch_call" for item in body["output"]):
        Response.model_validate(body)


@each_other
@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_goes_over_to_other_dialects(case: Case, name: str) -> None:
    _, batches, _ = measured(case.body)
    same(said(reread(DIALECTS[name], batches)), said(flat(batches)))
    body = assembled(DIALECTS[name], batches)
    same(said(DIALECTS[name].read_whole(body)), said(flat(batches)))


@each_other
@pytest.mark.parametrize("case", WHOLES)
def test_a_body_goes_over_to_other_dialects(case: Case, name: str) -> None:
    parts = responses.read_whole(case.body)
    same(said(DIALECTS[name].read_whole(assembled(DIALECTS[name], [parts]))), said(parts))
    same(said(reread(DIALECTS[name], [parts])), said(parts))


OTHER_STREAMS = parameters(
    *("openai/chat-stream", "deepseek/chat-stream", "mistral/chat-stream", "groq/chat-stream", "xai/chat-stream"),
    *("openrouter/chat-stream", "azure/chat-stream", "openai-compatible/chat-stream", "anthropic/messages-stream"),
    only=lambda case: case.good,
)


@pytest.mark.parametrize("case", OTHER_STREAMS)
def test_a_stream_of_another_dialect_is_read_by_clients_of_this_one(case: Case) -> None:
    dialect = DIALECTS["openai.chat" if case.dialect == "chat" else "anthropic.messages"]
    batches = stream_parts(dialect, case.body)
    told = said(flat(batches))
    stream = written(responses, batches)
    check_order(stream)
    same(said(flat(stream_parts(responses, stream))), told, given=True)
    body = assembled(responses, batches)
    same(said(responses.read_whole(body)), told, given=True)
    if final(stream)["status"] == "completed":
        read = sdk_response(stream)
        assert read.output_text == told.text
        assert [given for _, _, given in calls_of(read)] == [given for _, _, given in told.calls]


GEMINI = parameters("gemini/gemini-json", only=lambda case: case.good and "json-array" not in case.name)


@pytest.mark.parametrize("case", GEMINI)
def test_a_body_of_gemini_is_read_by_clients_of_this_one(case: Case) -> None:
    parts = DIALECTS["gemini.generate"].read_whole(case.body)
    stream = written(responses, [parts])
    check_order(stream)
    told, expected = said(flat(stream_parts(responses, stream))), said(parts)
    # Gemini's calls have no ids: they are given some.
    assert [call[1:] for call in told.calls] == [call[1:] for call in expected.calls]
    assert (told.text, told.reasoning, told.finish) == (expected.text, expected.reasoning, expected.finish)


@pytest.mark.parametrize("case", WHOLES)
def test_a_body_is_read_by_clients_of_gemini(case: Case) -> None:
    parts = responses.read_whole(case.body)
    gemini = DIALECTS["gemini.generate"]
    told, expected = said(gemini.read_whole(assembled(gemini, [parts]))), said(parts)
    assert [call[1:] for call in told.calls] == [call[1:] for call in expected.calls]
    assert (told.text, told.reasoning) == (expected.text, expected.reasoning)


@pytest.mark.parametrize("case", WHOLES)
def test_a_whole_body_is_measured(case: Case) -> None:
    meter = responses.meter()
    meter.whole(case.body)
    body = json.loads(case.body)
    assert meter.finished
    assert (meter.model, meter.id) == (body["model"], body["id"])
    parts = responses.read_whole(case.body)
    assert isinstance(parts[0], Start)
    assert isinstance(parts[-1], End)
    assert (meter.finish, meter.usage) == (said(parts).finish, said(parts).usage)


@pytest.mark.parametrize("case", WHOLES)
def test_a_whole_body_split_and_gathered_says_the_same(case: Case) -> None:
    parts = responses.read_whole(case.body)
    stream = written(responses, [parts])
    check_order(stream)
    assert said(flat(stream_parts(responses, stream))) == said(parts)
    assert said(responses.read_whole(assembled(responses, [flat(stream_parts(responses, stream))]))) == said(parts)


@pytest.mark.parametrize("case", WHOLES)
def test_a_body_that_nobody_changed_is_left_as_it_was(case: Case) -> None:
    assert json.loads(assembled(responses, [responses.read_whole(case.body)], case.body)) == json.loads(case.body)


@pytest.mark.parametrize("case", WHOLES)
def test_a_changed_text_is_the_only_thing_that_changes(case: Case) -> None:
    parts = changed(responses.read_whole(case.body), lambda text: "***")
    after, before = json.loads(assembled(responses, [parts], case.body)), json.loads(case.body)
    for item in before["output"]:
        for piece in item.get("content", []) if item["type"] == "message" else []:
            cited = {
                one["url"]: one.get("title") or one["url"] for one in piece.get("annotations") or [] if one.get("url")
            }
            # Of a text that is another one, only the addresses are left, for all of it.
            left = [
                {"type": "url_citation", "start_index": 0, "end_index": 3, "title": title, "url": url}
                for url, title in cited.items()
            ]
            piece |= {"text": "***", "annotations": left, "logprobs": []}
    assert after == before


@pytest.mark.parametrize("case", STREAMS)
def test_a_changed_text_is_changed_in_all_that_repeats_it(case: Case) -> None:
    _, batches, _ = measured(case.body)
    secret = said(flat(batches)).text
    edited = changed(flat(batches), lambda text: "*" * len(text))
    stream = written(responses, [[part] for part in edited])
    check_order(stream)
    for word in secret.split():
        if len(word) > 9:
            assert word not in json.dumps([each for each in payloads(stream) if "text" in each["type"]])
    told = [piece for item in final(stream)["output"] if item["type"] == "message" for piece in item["content"]]
    assert "".join(piece["text"] for piece in told) == "*" * len(secret)
    assert all(one["end_index"] == len(piece["text"]) for piece in told for one in piece["annotations"])


@pytest.mark.parametrize("case", parameters(*PROVIDERS, only=lambda case: case.status == 200 and not case.good))
def test_an_error_inside_a_stream_is_raised(case: Case) -> None:
    with pytest.raises(ProviderError) as raised:
        measured(case.body)
    assert raised.value.status == 429
    assert not raised.value.retryable


@pytest.mark.parametrize("case", parameters(*PROVIDERS, only=lambda case: case.status >= 400))
def test_an_error_reply_becomes_a_provider_error_in_the_dialect(case: Case) -> None:
    error = responses.read_error(case.status, case.meta["headers"], case.body)
    body = json.loads(responses.write_error(error, "r"))
    assert body["error"].keys() == {"message", "type", "param", "code"}
    [event] = events(responses.write_error_event(error, "r"))
    told = json.loads(sse.data(event) or b"")
    assert sse.kind(event) == told["type"] == "error"
    assert told["error"] == body["error"]
    assert told["message"] == error.message


@pytest.mark.parametrize("case", ASKED)
def test_a_recorded_request_is_understood(case: Case) -> None:
    assert case.request is not None
    fields = read_fields(case.request)
    fields.setdefault("model", encode("deployment"))
    request = responses.read_request(fields)
    sent = json.loads(case.request)
    assert request.stream == bool(sent.get("stream"))
    functions = [tool["name"] for tool in sent.get("tools") or [] if tool["type"] == "function"]
    assert [tool.name for tool in request.tools] == functions
    again = responses.read_request(read_fields(write_fields(responses.write_request(request, []))))
    assert [message.text for message in again.messages] == [message.text for message in request.messages]
    assert [message.content for message in again.messages] == [message.content for message in request.messages]
    adapted = json.loads(write_fields(responses.adapt(fields, model="other", stream=request.stream)))
    kept = {name for name in sent if name not in ("model", "stream")}
    assert {name: adapted[name] for name in kept} == {name: sent[name] for name in kept}


@each_other
@pytest.mark.parametrize("case", ASKED)
def test_a_recorded_request_can_be_asked_of_others(case: Case, name: str) -> None:
    assert case.request is not None
    request = responses.read_request({"model": encode("m"), **read_fields(case.request)})
    if not set(request.extra).isdisjoint(("previous_response_id", "prompt", "background")):
        with pytest.raises(BadRequest):
            check_translatable("openai.responses", request)
        return
    check_translatable("openai.responses", request)
    dropped: list[str] = []
    body = write_fields(DIALECTS[name].write_request(request, dropped))
    asked = DIALECTS[name].read_request(read_fields(body))
    for role in ("user", "assistant", "system"):
        texts = ["".join(one.text for one in turns.messages if one.role == role) for turns in (asked, request)]
        assert texts[0] == texts[1]
    assert [tool.name for tool in asked.tools] == [tool.name for tool in request.tools]
    assert set(request.extra) <= set(dropped)


def terminal(body: bytes) -> dict[str, Any]:
    found = next(each["response"] for each in payloads(body) if each["type"] == "response.completed")
    assert isinstance(found, dict)
    return found


def plain(output: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items less what repeats a text, and lists that say nothing."""
    items = json.loads(json.dumps(list(output)))
    for item in items:
        for piece in item.get("content") or []:
            piece.pop("logprobs", None)
        if item["type"] == "reasoning" and not item.get("content"):
            item.pop("content", None)
        # Sealed anew each time it is told.
        for sealed in ("encrypted_content", "fingerprint"):
            item.pop(sealed, None)
    return list(items)


def calls_of(response: Response) -> list[tuple[str | None, str | None, Any]]:
    found: list[tuple[str | None, str | None, Any]] = []
    for item in response.output:
        if isinstance(item, ResponseFunctionToolCall):
            found.append((item.call_id, item.name, json.loads(item.arguments or "{}")))
        elif isinstance(item, ResponseCustomToolCall):
            found.append((item.call_id, item.name, {"input": item.input}))
    return found


def same(one: Said, two: Said, *, given: bool = False) -> None:
    """Refusals are text to Anthropic, and a stop of the content filter to chats; `given`: a call's id may be made."""
    if given:
        made = {at for at, (id, _, _) in enumerate(two.calls) if id is None}
        one.calls = [(None if at in made else id, name, given) for at, (id, name, given) in enumerate(one.calls)]
    assert (one.text + one.refusal, one.reasoning, one.calls) == (two.text + two.refusal, two.reasoning, two.calls)
    assert one.finish == two.finish or {one.finish, two.finish} <= {"stop", "other", "refusal", "content_filter"}
    if one.usage is not None and two.usage is not None:
        assert (one.usage.input_tokens, one.usage.output_tokens) == (two.usage.input_tokens, two.usage.output_tokens)
