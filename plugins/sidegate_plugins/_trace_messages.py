"""What was asked and said, as OpenTelemetry's GenAI conventions write it. Only where a config asks for it."""

from __future__ import annotations

from typing import Any

import msgspec

from sidegate.contract import (
    Call,
    Chunk,
    Content,
    Reasoning,
    ReasoningContent,
    RefusalText,
    Request,
    Text,
    TextContent,
    ToolCall,
    ToolResult,
    ToolUse,
)
from sidegate.errors import SidegateError

Attributes = dict[str, Any]

_CUT = "..."


def asked_for(call: Call, messages: bool, room: int) -> Attributes:
    """The parameters of the request, and with `messages` its turns, as far as `room` bytes reach."""
    try:
        request = call.request
    except SidegateError:
        return {}
    found = _parameters(request)
    if messages and request.messages:
        kept = _Room(room)
        turns = [{"role": turn.role, "parts": kept.parts(turn.content)} for turn in request.messages]
        system = [part for turn in turns if turn["role"] == "system" for part in turn["parts"]]
        found["gen_ai.input.messages"] = _json([turn for turn in turns if turn["role"] != "system"])
        found["gen_ai.system_instructions"] = _json(system) if system else None
    return found


def _parameters(request: Request) -> Attributes:
    return {
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.request.temperature": request.temperature,
        "gen_ai.request.top_p": request.top_p,
        "gen_ai.request.top_k": request.top_k,
        "gen_ai.request.frequency_penalty": request.frequency_penalty,
        "gen_ai.request.presence_penalty": request.presence_penalty,
        "gen_ai.request.stop_sequences": list(request.stop) or None,
        "gen_ai.request.seed": request.seed,
        "gen_ai.request.choice.count": request.choices if (request.choices or 1) > 1 else None,
    }


class Said:
    """Gathers what a reply says, a list of blocks for each choice, no more than `room` characters in all."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._blocks: dict[tuple[int, int, str], list[str]] = {}
        self._calls: dict[tuple[int, int], tuple[str | None, str | None]] = {}

    def see(self, chunk: Chunk) -> None:
        for part in chunk.parts:
            match part:
                case Text(text=text) | RefusalText(text=text):
                    self._add((part.choice, part.block, "text"), text)
                case Reasoning(text=text):
                    self._add((part.choice, part.block, "reasoning"), text)
                case ToolCall():
                    place = part.choice, part.block
                    id, name = self._calls.get(place, (None, None))
                    self._calls[place] = part.id or id, part.name or name
                    self._add((*place, "tool_call"), part.arguments)
                case _:
                    pass

    def _add(self, place: tuple[int, int, str], text: str) -> None:
        if self._room >= 0:
            self._blocks.setdefault(place, []).append(text[: self._room])
            self._room -= len(text)

    def messages(self, finish: str | None) -> str:
        """As `gen_ai.output.messages`."""
        choices: dict[int, list[dict[str, Any]]] = {}
        for (choice, block, kind), pieces in sorted(self._blocks.items()):
            text = "".join(pieces)
            if kind == "tool_call":
                id, name = self._calls[choice, block]
                part = {"type": kind, "id": id, "name": name, "arguments": text}
            else:
                part = {"type": kind, "content": text}
            choices.setdefault(choice, []).append(part)
        return _json(
            [{"role": "assistant", "parts": parts, "finish_reason": finish or ""} for parts in choices.values()]
        )


class _Room:
    """So many bytes of text, for all turns together."""

    def __init__(self, room: int) -> None:
        self._left = room

    def parts(self, content: tuple[Content, ...]) -> list[dict[str, Any]]:
        return [self._part(part) for part in content]

    def _part(self, part: Content) -> dict[str, Any]:
        match part:
            case TextContent():
                return {"type": "text", "content": self._cut(part.text)}
            case ReasoningContent():
                return {"type": "reasoning", "content": self._cut(part.text)}
            case ToolUse():
                return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": self._cut(part.arguments)}
            case ToolResult():
                texts = [one.text for one in part.content if isinstance(one, TextContent)]
                return {"type": "tool_call_response", "id": part.id, "response": self._cut("".join(texts))}
            case _:
                # An image or a file: that there was one, and nothing of it.
                return {"type": type(part).__name__.removesuffix("Content").lower()}

    def _cut(self, text: str) -> str:
        if len(text) <= self._left:
            self._left -= len(text)
            return text
        kept, self._left = text[: self._left], 0
        return kept + _CUT


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
