"""Readers of Gemini's replies for tests: as the gateway reads them, and as Google's own client does."""

from __future__ import annotations

import json
from typing import Any

import httpx2
from google import genai
from google.genai import types

from sidegate.contract.meaning import Part
from sidegate.wire import sse
from sidegate.wire.dialect import Sign
from sidegate.wire.gemini.meter import GeminiMeter
from sidegate.wire.gemini.splitter import GeminiSplitter
from sidegate.wire.registry import DIALECTS
from tests.wire.saying import events

GEMINI = DIALECTS["gemini.generate"]


def cut(body: bytes) -> list[bytes]:
    """The events of a stream, SSE or an array."""
    splitter = GeminiSplitter()
    found = splitter.feed(body)
    rest = splitter.close()
    return found if rest is None else [*found, rest]


def measured(body: bytes) -> tuple[GeminiMeter, list[Sign], list[tuple[Part, ...]]]:
    """A stream as the pump reads it: each event measured, and read in the light of those before."""
    meter = GeminiMeter()
    signs: list[Sign] = []
    batches: list[tuple[Part, ...]] = []
    for event in cut(body):
        signs.append(meter.event(event))
        batches.append((meter.reader or GEMINI.read_event)(event))
    return meter, signs, batches


def payloads(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(data) for event in events(stream) if (data := sse.data(event)) is not None]


def sdk_events(stream: bytes) -> list[types.GenerateContentResponse]:
    """The events as Google's own client gives them."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        options = types.HttpOptions(base_url="http://gateway", httpx_client=http)
        client = genai.Client(api_key="k", http_options=options)
        return list(client.models.generate_content_stream(model="m", contents="Hi"))


def sdk_text(stream: bytes) -> str:
    parts = [part for event in sdk_events(stream) for part in _parts(event)]
    return "".join(part.text or "" for part in parts if not part.thought)


def sdk_calls(stream: bytes) -> list[tuple[str | None, Any]]:
    parts = [part for event in sdk_events(stream) for part in _parts(event)]
    return [(part.function_call.name, part.function_call.args or {}) for part in parts if part.function_call]


def _parts(event: types.GenerateContentResponse) -> list[types.Part]:
    found = [one.content for one in event.candidates or [] if not one.index]
    return [part for content in found if content is not None for part in content.parts or []]
