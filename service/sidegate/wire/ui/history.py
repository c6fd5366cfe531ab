"""The messages of a UI, read as turns.

One assistant's message holds all steps of an answer: what stands between two `step-start` is one turn of the model, and
the results of its calls, which stand at the calls themselves, are the turn that follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from sidegate.contract.meaning import Content, Message, TextContent, ToolResult
from sidegate.errors import BadRequest
from sidegate.wire.body import UNREADABLE
from sidegate.wire.ui.parts import Called, is_call, kind_of, read_call, read_content, thought, unanswered

_LONGEST_ID = 512


class UIMessage(Struct):
    """What is understood of one. `content` is how messages without parts are written by hand."""

    role: Literal["system", "user", "assistant"]
    parts: list[dict[str, Any]] | None = None
    content: str | None = None


def read_messages(messages: Iterable[UIMessage]) -> tuple[Message, ...]:
    """The turns. Raises `BadRequest` naming the part that is wrong."""
    turns = _Turns()
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        parts = message.parts
        if parts is None:
            if message.content is None:
                raise BadRequest(f"{place}.parts: missing", param=f"{place}.parts")
            parts = [{"type": "text", "text": message.content}]
        if message.role == "assistant":
            _read_assistant(parts, place, turns)
            continue
        content = _contents(parts, f"{place}.parts")
        if message.role == "system":
            content = [piece for piece in content if isinstance(piece, TextContent)]
        turns.add(message.role, content)
    return tuple(turns.found)


def _read_assistant(parts: list[dict[str, Any]], place: str, turns: _Turns) -> None:
    for index, part in enumerate(parts):
        where = f"{place}.parts[{index}]"
        kind = kind_of(part, where)
        if kind == "step-start":
            turns.step()
        elif kind == "steering-message":
            turns.step()
            turns.add("user", _contents(part.get("parts"), f"{where}.parts"))
        elif is_call(kind):
            _take_call(read_call(kind, part, where), turns)
        else:
            turns.content += read_content(kind, part, where)
    turns.step()


def _take_call(called: Called | Content | None, turns: _Turns) -> None:
    if isinstance(called, Called):
        turns.call(called)
    elif called is not None:
        turns.content.append(called)


def _contents(parts: Any, place: str) -> list[Content]:
    """What a user or a system says; calls have no place there."""
    found: list[Content] = []
    if not isinstance(parts, list):
        raise BadRequest(f"{place}: Expected `array`", param=place)
    for index, part in enumerate(parts):
        where = f"{place}[{index}]"
        if not isinstance(part, dict):
            raise BadRequest(f"{where}: Expected `object`", param=where)
        kind = kind_of(part, where)
        if is_call(kind):
            raise BadRequest(f"{where}.type: A call stands in an assistant's message.", param=f"{where}.type")
        if kind != "step-start":
            found += read_content(kind, part, where)
    return found


class _Named(Struct):
    role: str
    id: str | None = None


_NAMED = msgspec.json.Decoder(list[_Named])


def continued(fields: Mapping[str, msgspec.Raw]) -> str | None:
    """The id of the assistant's message that the reply goes on with: a client takes any other for a message of its own.

    It goes on with the last one, or the one that is named, unless an answer is to be made anew.
    """
    if bytes(fields.get("trigger", b"")) == b'"regenerate-message"':
        return None
    try:
        messages = _NAMED.decode(fields["messages"])
        named = msgspec.json.decode(fields.get("messageId", b"null"), type=str | None)
    except (KeyError, *UNREADABLE):
        return None
    found = next((one for one in messages if named is not None and one.id == named), messages[-1] if messages else None)
    if found is None or found.role != "assistant" or not found.id or len(found.id) > _LONGEST_ID:
        return None
    return found.id


class _Turns:
    """Turns as they are found, and the step that is being read."""

    def __init__(self) -> None:
        self.found: list[Message] = []
        self.content: list[Content] = []
        self._calls: list[Called] = []
        self._open: list[Called] = []

    def call(self, called: Called) -> None:
        if called.seal is not None:
            self.content.append(thought("", called.seal))
        self.content.append(called.use)
        self._calls.append(called)

    def step(self) -> None:
        """The step is over: its words and calls are a turn, and what the tools answered is the next."""
        content, self.content = self.content, []
        calls, self._calls = self._calls, []
        if not content:
            return
        self.add("assistant", content)
        if any(call.result is not None for call in calls):
            self.found.append(Message("user", _results(calls)))
        else:
            self._open = calls

    def add(self, role: Literal["system", "user", "assistant"], content: list[Content]) -> None:
        """A turn that says nothing is none: a message that was stopped before its first word, or data for pages."""
        if not content:
            return
        if self._open:
            self.found.append(Message("user", _results(self._open)))
            self._open = []
        self.found.append(Message(role, tuple(content)))


def _results(calls: list[Called]) -> tuple[ToolResult, ...]:
    return tuple(call.result or unanswered(call.use.id) for call in calls)
