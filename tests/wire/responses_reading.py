"""Readers of OpenAI's Responses streams for tests: measured as the pump does, and by the vendor's own client."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
from openai.types.responses import Response

from sidegate.contract.meaning import Part
from sidegate.wire import sse
from sidegate.wire.dialect import Dialect, Meter, Sign
from sidegate.wire.openai_responses.dialect import OpenAIResponses
from tests.wire.saying import events

responses: Dialect = OpenAIResponses()


def measured(body: bytes) -> tuple[Meter, list[tuple[Part, ...]], list[Sign]]:
    """A stream as the pump takes it, up to its end: the meter, the parts of each event, and its sign."""
    meter = responses.meter()
    batches: list[tuple[Part, ...]] = []
    signs: list[Sign] = []
    for event in events(body):
        signs.append(meter.event(event))
        batches.append((meter.reader or responses.read_event)(event))
        if signs[-1] is Sign.END:
            break
    return meter, batches, signs


def payloads(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(data) for event in events(stream) if (data := sse.data(event)) is not None]


def final(stream: bytes) -> dict[str, Any]:
    """The response in the last event."""
    found = payloads(stream)[-1]["response"]
    assert isinstance(found, dict)
    return found


def check_order(stream: bytes) -> None:
    """What every client relies on: numbers without gaps, items counted from 0, pieces inside what is open, and repeats
    that say what was said."""
    told = payloads(stream)
    assert [each["type"] for each in told[:2]] == ["response.created", "response.in_progress"]
    assert [each["sequence_number"] for each in told] == list(range(len(told)))
    assert [sse.kind(event) for event in events(stream)] == [each["type"] for each in told]
    lifecycle = [each["response"] for each in told if "response" in each]
    assert len({each["id"] for each in lifecycle}) == 1
    open_items: dict[int, str | None] = {}
    ended: list[Any] = []
    said: dict[tuple[Any, ...], str] = {}
    for each in told:
        index, kind = each.get("output_index"), each["type"]
        if kind == "response.output_item.added":
            assert index == len(open_items)
            open_items[index] = each["item"].get("id")
            continue
        if index is None:
            continue
        assert open_items[index] is not None or kind.startswith("response.output_item")
        if kind == "response.output_item.done":
            assert each["item"].get("id") == open_items[index]
            ended.append((index, each["item"]))
            continue
        if not kind.endswith(("text.delta", "text.done", "arguments.delta", "arguments.done", "refusal.delta")):
            continue
        assert each["item_id"] == open_items[index]
        key = index, each.get("content_index"), each.get("summary_index")
        if kind.endswith("delta"):
            said[key] = said.get(key, "") + each["delta"]
        else:
            assert each.get("text", each.get("arguments")) == said.get(key, "")
    assert [item for _, item in sorted(ended, key=lambda one: one[0])] == lifecycle[-1]["output"]


def sdk_response(stream: bytes) -> Response:
    """The response as OpenAI's own client gathers it from the stream; for replies that are complete."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    with (
        httpx2.Client(transport=httpx2.MockTransport(answer)) as http,
        openai.OpenAI(api_key="k", base_url="http://gateway", http_client=http) as client,
        client.responses.stream(model="m", input="Hi") as reply,
    ):
        return reply.get_final_response()
