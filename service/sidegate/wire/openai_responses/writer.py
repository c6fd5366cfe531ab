"""Parts into the items and events of OpenAI's Responses; a stream frames the events, a body keeps the items.

A message or a reasoning is open alone, calls may be open together. Every event that repeats what was said is made from
what came here, so that an edit of the text holds in all of them; a message stays open until something else is said, for
an edit may have held back the end of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sidegate.contract.meaning import (
    BlockEnd,
    Citation,
    Comment,
    End,
    Finish,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Report,
    Start,
    Text,
    ToolCall,
    Usage,
)
from sidegate.wire.dialect import Envelope
from sidegate.wire.openai_chat.writer import Calls
from sidegate.wire.openai_responses import event as wire
from sidegate.wire.openai_responses.item import (
    CallItem,
    CustomCallItem,
    Item,
    MessageItem,
    OtherItem,
    Pieced,
    ReasoningItem,
)
from sidegate.wire.openai_responses.usage import read_finish, write_finish, write_usage
from sidegate.wire.seals import OPENAI, marked

_FIELDS: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": False,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""What SDKs want of every response. A provider of this dialect tells its own; elsewhere nobody echoes the request."""


class ResponsesWriter:
    """Takes the parts of one reply. Only choice 0 can be said."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._start = Start()
        self._fields: dict[str, Any] = {}
        self._usage = Usage()
        self._usage_fields: dict[str, Any] = {}
        self._finish: Finish | None = None
        self._told: dict[str, Any] = {}
        self._opened = False
        self._ended = False
        self.items: list[Item] = []
        self._own: dict[int, Item] = {}
        self._coming: dict[int, dict[str, Any]] = {}
        self._calls = Calls()
        self._placed: list[CallItem] = []
        self._by_block: dict[int, list[CallItem]] = {}
        self._spoken: Pieced | None = None
        self._citing: dict[int, list[Citation]] = {}
        """What was told of texts that have not begun."""

    def say(self, kind: str, fields: dict[str, Any]) -> None:
        """Tells of an event. A body has none."""

    def comment(self, text: str) -> None:
        """Tells people something."""

    def take(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if not self._ended:
                self._take(part)

    def response(self, status: str, details: Any = None) -> dict[str, Any]:
        """The response as it is now."""
        running = status == "in_progress"
        usage = None if running else write_usage(self._usage)
        return {
            "id": self._start.id or f"resp_{self._envelope.id}",
            "object": "response",
            "created_at": self._start.created or self._envelope.created,
            "status": status,
            "error": None,
            "incomplete_details": details,
            "model": self._start.model or self._envelope.model,
            "output": [] if running else [item.body() for item in self.items],
            "usage": None if usage is None else usage | self._usage_fields,
            **(self._fields or _FIELDS),
        }

    def _declines(self) -> bool:
        """Whether a text of it is marked as a refusal."""
        return any(part["type"] == "refusal" for item in self.items for part in item.body().get("content") or ())

    def ended(self) -> dict[str, Any]:
        """The whole response, and how it ended: as its provider told it, where that is still the end."""
        reason = "stop" if self._finish is None else self._finish.reason
        # Declined in words that nobody marked as a refusal: it may not pass for an answer.
        status, details = write_finish("content_filter" if reason == "refusal" and not self._declines() else reason)
        told = self._told
        if told:
            called = any(isinstance(item, CallItem) for item in self.items)
            refused = reason == "refusal" and self._declines()
            if read_finish(told["status"], told["incomplete_details"], called=called, refused=refused) == reason:
                status, details = told["status"] or status, told["incomplete_details"]
        whole = self.response(status, details)
        if status == "failed":
            whole["error"] = {"code": "server_error", "message": "The provider failed."}
        return whole

    def _take(self, part: Part) -> None:
        match part:
            case Text(text, 0, block):
                if text:
                    self._piece(MessageItem, "output_text", block, text)
                    for citation in self._citing.pop(block, ()) if self._citing else ():
                        self._cite(citation)
            case RefusalText(text, 0, block):
                if text:
                    self._piece(MessageItem, "refusal", block, text)
            case ToolCall(choice=0):
                self._call(part)
            case Reasoning(choice=0):
                self._reason(part)
            case Opaque():
                self._opaque(part)
            case BlockEnd(choice=0):
                self._end_block(part.block)
            case Citation(choice=0):
                self._cite(part)
            case _:
                self._aside(part)

    def _aside(self, part: Part) -> None:
        match part:
            case Start():
                self._start = self._start if self._opened else part
            case Report():
                self._usage = self._usage.merge(part.usage)
            case Finish(choice=0):
                self._finish = part
            case Comment():
                self.comment(part.text)
            case End():
                self._end()
            case _:
                return

    # --- items --------------------------------------------------------------------------------------------------------

    def _piece(self, made: type[Pieced], kind: str, block: int, text: str) -> None:
        self._of(made, block).add(kind, block, text)

    def _of(self, made: type[Pieced], block: int) -> Pieced:
        """The item that a piece of this block belongs to."""
        own = self._own.get(block // wire.WIDTH)
        if isinstance(own, made) and own.open:
            self._speak(own)
            return own
        if isinstance(self._spoken, made) and self._spoken.open and not self._is_coming(block, made):
            return self._spoken
        return self._begin_pieced(made, block)

    def _begin_pieced(self, made: type[Pieced], block: int) -> Pieced:
        self._speak(None)
        fields = self._coming.pop(block // wire.WIDTH) if self._is_coming(block, made) else {}
        index = len(self.items)
        prefix = "msg" if made is MessageItem else "rs"
        item = made(self.say, index, _word(fields.get("id")) or f"{prefix}_{self._envelope.id}_{index}", fields)
        if fields:
            self._own[block // wire.WIDTH] = item
        self._begin(item)
        self._speak(item)
        return item

    def _is_coming(self, block: int, made: type[Item]) -> bool:
        return self._coming.get(block // wire.WIDTH, {}).get("type") == made.kind

    def _speak(self, item: Pieced | None) -> None:
        """One message or reasoning at a time."""
        if self._spoken is not None and self._spoken is not item:
            self._spoken.end()
        self._spoken = item

    def _begin(self, item: Item) -> None:
        self.items.append(item)
        item.begin()

    def _call(self, call: ToolCall) -> None:
        placed = self._calls.place(call)
        if placed is None:
            return
        place, first = placed
        if first:
            self._speak(None)
            index = len(self.items)
            made = CustomCallItem if call.custom else CallItem
            fields = self._coming.pop(call.block // wire.WIDTH) if self._is_coming(call.block, made) else {}
            item = made(
                self.say,
                index,
                _word(fields.get("id")) or f"{'ctc' if call.custom else 'fc'}_{self._envelope.id}_{index}",
                fields,
                # Clients answer by id: a call that came without one is given one.
                call_id=call.id or f"call_{self._envelope.id}_{index}",
                name=call.name or "",
                block=call.block,
            )
            if fields:
                self._own[call.block // wire.WIDTH] = item
            self._placed.append(item)
            self._by_block.setdefault(call.block, []).append(item)
            self._begin(item)
        if self._placed[place].open:
            self._placed[place].add(call.arguments)

    def _reason(self, part: Reasoning) -> None:
        """Text, or what seals it. Redacted thinking of another dialect is a reasoning of its own."""
        own = self._own.get(part.block // wire.WIDTH)
        raw = isinstance(own, ReasoningItem) and part.block % wire.WIDTH < wire.SUMMARY
        if part.text:
            self._piece(ReasoningItem, "reasoning_text" if raw else "summary_text", part.block, part.text)
        if part.redacted is not None and not raw:
            self._speak(None)
        sealed = marked(OPENAI, part.vendor, part.signature, part.redacted)
        if sealed:
            item = self._of(ReasoningItem, part.block)
            assert isinstance(item, ReasoningItem)
            item.sealed = sealed
        if part.redacted is not None and not raw:
            self._speak(None)

    # --- what only this dialect knows ---------------------------------------------------------------------------------

    def _opaque(self, part: Opaque) -> None:
        data = part.data
        if part.kind == wire.SUMMARY_PART and part.block is not None:
            self._summary_part(part.block)
        if not part.kind.startswith("responses.") or not isinstance(data, dict):
            return
        number = -1 if part.block is None else part.block // wire.WIDTH
        match part.kind:
            case wire.RESPONSE:
                self._fields = data.get("fields", self._fields)
                self._usage_fields = data.get("usage", {})
                self._told = data.get("ended", {})
            case wire.ITEM:
                self._own_item(number, data)
            case wire.ITEM_DONE:
                self._own_item_done(number, data)
            case wire.EVENT:
                self._own_event(data)
            case _:
                return

    def _own_item(self, number: int, data: dict[str, Any]) -> None:
        """An item begins. Messages and calls wait for what they say, since an edit may take all of it away."""
        self._own.pop(number, None)
        if data.get("type") in (MessageItem.kind, CallItem.kind, CustomCallItem.kind):
            self._coming[number] = data
            return
        self._speak(None)
        index = len(self.items)
        kind = ReasoningItem if data.get("type") == ReasoningItem.kind else OtherItem
        item = kind(self.say, index, _word(data.get("id")) or f"rs_{self._envelope.id}_{index}", data)
        self._own[number] = item
        self._begin(item)

    def _own_item_done(self, number: int, data: dict[str, Any]) -> None:
        item = self._own.get(number)
        self._coming.pop(number, None)
        if item is None or not item.open:
            return
        item.fields = {**item.fields, **data} if item.kind else data
        item.status = _word(data.get("status")) or item.status
        if not isinstance(item, MessageItem):
            item.end()

    def _summary_part(self, block: int) -> None:
        item = self._own.get(block // wire.WIDTH)
        if isinstance(item, ReasoningItem) and item.open:
            item.another("summary_text", block)

    def _cite(self, citation: Citation) -> None:
        """What a text rests on: told with the end of the text, or behind it, or kept until the text comes."""
        for item in reversed(self.items):
            if isinstance(item, MessageItem) and item.cite(citation):
                return
        self._citing.setdefault(citation.block, []).append(citation)

    def _own_event(self, data: dict[str, Any]) -> None:
        """An event as it came, with the number that its item has here; without it where the item is not told."""
        fields = {name: value for name, value in data.items() if name not in ("type", "sequence_number")}
        if "output_index" in fields:
            item = self._own.get(fields["output_index"]) if isinstance(fields["output_index"], int) else None
            if item is None:
                return
            fields["output_index"] = item.index
        self.say(str(data.get("type")), fields)

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _end_block(self, block: int) -> None:
        """Reasoning and calls of other dialects end with their block; those of this one are told to."""
        if block // wire.WIDTH in self._own:
            return
        spoken = self._spoken
        if isinstance(spoken, ReasoningItem) and (spoken.last is None or spoken.last.block == block):
            self._speak(None)
        for call in self._by_block.pop(block, ()):
            call.end()

    def _end(self) -> None:
        self._ended = True
        whole = self.ended()
        unfinished = whole["status"] if whole["status"] == "incomplete" else "completed"
        for item in self.items:
            if item.open:
                item.status = item.status or unfinished
                item.end()
        whole["output"] = [item.body() for item in self.items]
        self.say(f"response.{whole['status']}", {"response": whole})


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
