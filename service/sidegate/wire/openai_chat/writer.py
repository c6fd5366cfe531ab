"""Chat Completions replies, written: parts into the events of a stream."""

from __future__ import annotations

from typing import Any

from sidegate.contract.meaning import (
    Citation,
    Finish,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Text,
    ToolCall,
)
from sidegate.wire import openai
from sidegate.wire.citing import Cited
from sidegate.wire.dialect import Envelope
from sidegate.wire.openai_chat.details import Details
from sidegate.wire.openai_chat.reply import CHAT, OPAQUE
from sidegate.wire.openai_writer import StreamWriter

PREFIX = "chatcmpl-"


class Calls:
    """The tool calls of one choice, in order of first appearance: 0, 1, 2 without gaps, as SDKs demand.

    Some servers send parallel calls under one index: an id that is new, with a name, on a block in use is a new call.
    """

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._ids: list[str | None] = []
        self._custom: set[int] = set()
        self.silent: dict[int, None] = {}
        """Indexes of the calls that have given no arguments so far."""

    def place(self, call: ToolCall) -> tuple[int, bool] | None:
        """The index of the call that this piece belongs to, and whether it is its first."""
        place = self._places.get(call.block)
        if place is not None and not self._another(call, self._ids[place]):
            self._ids[place] = self._ids[place] or call.id
            return place, False
        if place is None and call.id is None and call.name is None:
            return None
        place = self._places[call.block] = len(self._ids)
        self._ids.append(call.id)
        if call.custom:
            self._custom.add(place)
        return place, True

    def is_custom(self, place: int) -> bool:
        """Whether the call of this index takes words of any form: its first piece said so."""
        return place in self._custom

    def _another(self, call: ToolCall, id: str | None) -> bool:
        return id is not None and call.id is not None and call.name is not None and call.id != id


class ChatWriter(StreamWriter):
    """`Encoder` of Chat Completions. The first delta of each choice bears the role."""

    kind = "chat.completion.chunk"
    prefix = PREFIX

    def __init__(self, envelope: Envelope) -> None:
        super().__init__(envelope)
        self._call_id = envelope.id
        self._roles: set[int] = set()
        self._calls: dict[int, Calls] = {}
        self._details = Details()
        self._cited = Cited()

    def opening(self) -> bytes:
        self._roles.add(0)
        return self.chunk([_choice(0, {"role": "assistant", "content": ""})])

    def choice(self, part: Part) -> dict[str, Any] | None:
        if isinstance(part, Finish):
            # What is cited is told at the end: until then nobody knows where a block ends.
            annotations = written_citations(self._cited, part.choice)
            delta: dict[str, Any] = {"annotations": annotations} if annotations else {}
            if part.reason != "length" and (silent := self._silent(part.choice)):
                delta["tool_calls"] = silent
            return _choice(part.choice, self._delta(part.choice, delta), openai.write_finish(part.reason))
        said = self._said(part)
        if said is None:
            return None
        choice, delta = said
        return _choice(choice, self._delta(choice, delta))

    def _said(self, part: Part) -> tuple[int, dict[str, Any]] | None:
        match part:
            case Text(text, choice, block):
                self._cited.say(text, choice, block)
                return choice, {"content": text}
            case Citation():
                self._cited.cite(part)
                return None
            case Reasoning():
                return self._thought(part)
            case RefusalText(text, choice):
                return choice, {"refusal": text}
            case ToolCall():
                call = self._call(part)
                return None if call is None else (part.choice, {"tool_calls": [call]})
            case Opaque(kind, choice, _, data) if kind.startswith(OPAQUE):
                return choice, {kind.removeprefix(OPAQUE): data}
            case _:
                return None

    def _thought(self, part: Reasoning) -> tuple[int, dict[str, Any]] | None:
        said: dict[str, Any] = {"reasoning_content": part.text} if part.text else {}
        detail = self._details.take(part)
        if detail is not None:
            said = {**said, "reasoning_details": [detail]}
        return (part.choice, said) if said else None

    def _delta(self, choice: int, delta: dict[str, Any]) -> dict[str, Any]:
        if choice in self._roles:
            return delta
        self._roles.add(choice)
        return {"role": "assistant", **delta}

    def _call(self, call: ToolCall) -> dict[str, Any] | None:
        placed = self._calls.setdefault(call.choice, Calls()).place(call)
        if placed is None:
            return None
        index, first = placed
        calls = self._calls[call.choice]
        custom = calls.is_custom(index)
        if call.arguments:
            calls.silent.pop(index, None)
        elif first and not custom:
            calls.silent[index] = None
        if not first:
            return {"index": index, **_given("custom" if custom else "function", call.arguments)}
        # Clients answer by id: a call that came without one is given one.
        id = call.id or call_id(self._call_id, call.choice, index)
        return {"index": index, **written_call(id, call.name, call.arguments, custom=custom)}

    def _silent(self, choice: int) -> list[dict[str, Any]]:
        """Clients parse what is given: a call without arguments gives an empty object."""
        calls = self._calls.get(choice)
        return [] if calls is None else [{"index": index, "function": {"arguments": "{}"}} for index in calls.silent]


def written_citations(cited: Cited, choice: int) -> list[dict[str, Any]]:
    """The annotations of a choice: as they came where they came from a chat, and still fit."""
    found: list[dict[str, Any]] = []
    for placed in cited.placed(choice):
        if placed.citation.origin == CHAT and placed.citation.data is not None:
            found.append(placed.citation.data)
        elif (told := openai.write_citation(placed)) is not None:
            found.append({"type": "url_citation", "url_citation": told})
    return found


def written_call(id: str, name: str | None, arguments: str, *, custom: bool) -> dict[str, Any]:
    """A call, or the first piece of one; `custom` where it takes words of any form."""
    kind = "custom" if custom else "function"
    return {"id": id, "type": kind, kind: {"name": name or "", **_given(kind, arguments)[kind]}}


def _given(kind: str, arguments: str) -> dict[str, dict[str, str]]:
    return {kind: {"input" if kind == "custom" else "arguments": arguments}}


def call_id(envelope_id: str, choice: int, index: int) -> str:
    return f"call_{envelope_id}_{choice}_{index}"


def _choice(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
