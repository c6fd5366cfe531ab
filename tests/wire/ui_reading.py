"""A reader of UI message streams for tests: as strict as the AI SDK's own, version 6, which fails on what it does not
know; and the parts of recorded streams of any provider."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sidegate.contract.meaning import Part
from sidegate.wire import sse
from sidegate.wire.dialect import Sign
from sidegate.wire.registry import DIALECTS
from tests.wire.recordings import Case
from tests.wire.saying import events

READ_BY = {
    "chat": "openai.chat",
    "messages": "anthropic.messages",
    "responses": "openai.responses",
    "gemini": "gemini.generate",
}
"""The recordings' word for a dialect, and ours."""

_METADATA = {"providerMetadata"}
FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "start": (set(), {"messageId", "messageMetadata"}),
    "start-step": (set(), set()),
    "finish-step": (set(), set()),
    "text-start": ({"id"}, _METADATA),
    "text-delta": ({"id", "delta"}, _METADATA),
    "text-end": ({"id"}, _METADATA),
    "reasoning-start": ({"id"}, _METADATA),
    "reasoning-delta": ({"id", "delta"}, _METADATA),
    "reasoning-end": ({"id"}, _METADATA),
    "tool-input-start": ({"toolCallId", "toolName"}, _METADATA),
    "tool-input-delta": ({"toolCallId", "inputTextDelta"}, set()),
    "tool-input-available": ({"toolCallId", "toolName", "input"}, _METADATA),
    "tool-input-error": ({"toolCallId", "toolName", "input", "errorText"}, _METADATA),
    "source-url": ({"sourceId", "url"}, {"title"}),
    "source-document": ({"sourceId", "mediaType", "title"}, {"filename"}),
    "file": ({"url", "mediaType"}, set()),
    "error": ({"errorText"}, set()),
    "abort": (set(), {"reason"}),
    "finish": (set(), {"finishReason", "messageMetadata"}),
}
"""By kind of chunk: the fields that it must have, and those that it may. Only what versions 6 and 7 both read."""

REASONS = {"stop", "length", "content-filter", "tool-calls", "error", "other"}


@dataclass
class Read:
    """What a page has of a stream."""

    message: dict[str, Any] = field(default_factory=lambda: {"role": "assistant", "parts": []})
    finish: str | None = None
    error: str | None = None
    aborted: str | None = None
    ended: bool = False
    """The end marker came."""
    comments: list[str] = field(default_factory=list)

    @property
    def parts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.message["parts"]
        return found

    def texts(self, kind: str = "text") -> str:
        return "".join(part["text"] for part in self.parts if part["type"] == kind)

    @property
    def calls(self) -> list[tuple[str, str, Any]]:
        return [
            (part["toolCallId"], part["type"].removeprefix("tool-"), part.get("input"))
            for part in self.parts
            if part["type"].startswith("tool-")
        ]

    @property
    def usage(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.message.get("metadata", {}).get("usage")
        return found


def chunks(stream: bytes) -> list[dict[str, Any]]:
    """The chunks of a stream, each checked by itself."""
    found = []
    for event in events(stream):
        data = sse.data(event)
        if data is None or data == b"[DONE]":
            continue
        chunk = json.loads(data)
        required, optional = FIELDS[chunk["type"]]
        assert required <= chunk.keys() <= required | optional | {"type"}, chunk
        assert None not in chunk.values(), chunk
        found.append(chunk)
    return found


def kinds(stream: bytes) -> list[str]:
    return [chunk["type"] for chunk in chunks(stream)]


def read(stream: bytes) -> Read:
    """The message as a client gathers it."""
    found = Read()
    reader = _Reader(found)
    for event in events(stream):
        data = sse.data(event)
        assert not found.ended, "nothing follows the end"
        if data is None:
            found.comments.append(event.decode().strip().removeprefix(": "))
        elif data == b"[DONE]":
            found.ended = True
        else:
            (chunk,) = chunks(event)
            reader.take(chunk)
    if found.ended:
        assert reader.closed, "the end came with something open"
    return found


class _Reader:
    def __init__(self, found: Read) -> None:
        self._found = found
        self._open: dict[tuple[str, str], dict[str, Any]] = {}
        self._called: dict[str, dict[str, Any]] = {}
        self._steps = 0

    @property
    def closed(self) -> bool:
        waiting = [part for part in self._called.values() if part["state"] == "input-streaming"]
        return not self._open and not waiting and self._steps == 0 and self._found.finish is not None

    def take(self, chunk: dict[str, Any]) -> None:
        kind = chunk["type"]
        if kind not in ("start", "error", "abort", "finish", "start-step"):
            assert self._steps == 1, f"{kind} outside of a step"
        what, _, step = kind.partition("-")
        if what in ("text", "reasoning"):
            self._text(what, step, chunk)
        elif kind.startswith("tool-input"):
            self._call(kind, chunk)
        else:
            self._aside(kind, chunk)

    def _text(self, what: str, step: str, chunk: dict[str, Any]) -> None:
        key = what, chunk["id"]
        if step == "start":
            assert key not in self._open
            self._open[key] = {"type": what, "text": "", "state": "streaming"}
            self._found.parts.append(self._open[key])
        elif step == "delta":
            assert chunk["delta"]
            self._open[key]["text"] += chunk["delta"]
        else:
            part = self._open.pop(key)
            part["state"] = "done"
            if "providerMetadata" in chunk:
                part["providerMetadata"] = chunk["providerMetadata"]

    def _call(self, kind: str, chunk: dict[str, Any]) -> None:
        id = chunk["toolCallId"]
        if kind == "tool-input-start":
            assert id not in self._called
            part = {"type": f"tool-{chunk['toolName']}", "toolCallId": id, "state": "input-streaming"}
            if "providerMetadata" in chunk:
                part["callProviderMetadata"] = chunk["providerMetadata"]
            self._called[id] = part
            self._found.parts.append(part)
            return
        part = self._called[id]
        assert part["state"] == "input-streaming"
        if kind == "tool-input-available":
            part |= {"state": "input-available", "input": chunk["input"]}
        elif kind == "tool-input-error":
            part |= {"state": "output-error", "input": chunk["input"], "errorText": chunk["errorText"]}

    def _aside(self, kind: str, chunk: dict[str, Any]) -> None:
        found = self._found
        told = chunk.get("messageMetadata", {})
        found.message.setdefault("metadata", {}).update(told)
        match kind:
            case "start":
                assert not found.parts
                found.message["id"] = chunk["messageId"]
            case "start-step" | "finish-step":
                self._steps += 1 if kind == "start-step" else -1
                if kind == "start-step":
                    found.parts.append({"type": "step-start"})
            case "finish":
                assert chunk["finishReason"] in REASONS
                found.finish = chunk["finishReason"]
            case "error":
                found.error = chunk["errorText"]
            case "abort":
                found.aborted = chunk["reason"]
            case _:
                found.parts.append(chunk)


def said_by(case: Case) -> list[tuple[Part, ...]]:
    """The parts of a recorded stream, event by event, as the gateway reads them."""
    dialect = DIALECTS[READ_BY[case.dialect]]
    splitter, meter = dialect.splitter(), dialect.meter()
    batches = []
    pieces = splitter.feed(case.body)
    rest = splitter.close()
    for event in pieces if rest is None else [*pieces, rest + b"\n\n"]:
        sign = meter.event(event)
        reader = meter.reader or dialect.read_event
        if sign is not Sign.NOTHING:
            batches.append(reader(event))
    return batches


def as_history(message: dict[str, Any], asked: str = "Hi") -> dict[str, Any]:
    """The fields of a request in which the message has come back."""
    first = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": asked}]}
    body = {"model": "m", "messages": [first, {"id": "a1", **message}]}
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}
