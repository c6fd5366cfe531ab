"""What a reply says, as parts of Gemini's: shared by those that write streams and bodies.

Calls are gathered, since Gemini says them whole. Signatures stand at the part they bind: at thinking where its block
has said some, at a call that follows at once, else at an empty text, as Gemini's own do at the end of a stream.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw

from sidegate.contract.meaning import (
    BlockEnd,
    Citation,
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
from sidegate.wire.body import UNREADABLE
from sidegate.wire.citing import Cited
from sidegate.wire.custom_calls import in_object
from sidegate.wire.dialect import Envelope
from sidegate.wire.gemini.citations import grounding
from sidegate.wire.gemini.reply import CANDIDATE, PART, REPLY, USAGE
from sidegate.wire.gemini.usage import finish_name, read_finish, write_finish, write_usage
from sidegate.wire.seals import encoded

MALFORMED = "MALFORMED_FUNCTION_CALL"
MOST_SAID = 2_000
"""Characters about a call that could not be said."""

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")


class _Call:
    """A call whose pieces are gathered."""

    __slots__ = ("_pieces", "custom", "id", "name")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.custom = False
        self._pieces: list[str] = []

    @property
    def arguments(self) -> str:
        """JSON text, or what the provider gave instead."""
        given = "".join(self._pieces)
        return in_object(given) if self.custom else given

    def add(self, piece: ToolCall) -> None:
        self.id, self.name = self.id or piece.id, self.name or piece.name
        self.custom = self.custom or piece.custom
        self._pieces.append(piece.arguments)


class Saying:
    """Takes parts; `parts` holds what is ready, by choice."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self.parts: dict[int, list[dict[str, Any]]] = {}
        self.fields: dict[int, dict[str, Any]] = {}
        """Fields of candidates that have no word."""
        self.finish: dict[int, str] = {}
        self.usage: Usage | None = None
        self.start = Start()
        self.reply: dict[str, Any] = {}
        """Fields of the reply that have no word."""
        self.counts: dict[str, Any] = {}
        """Counts that have no word."""
        self.cited = Cited()
        self._kept: dict[int, str] = {}
        self._open: dict[tuple[int, int], _Call] = {}
        self._broken: dict[int, str] = {}
        self._thinking: set[tuple[int, int]] = set()
        self._signature: dict[int, str] = {}

    def take(self, part: Part) -> None:
        if type(part) is Text:
            # Nearly every part: past the long way below.
            self.cited.say(part.text, part.choice, part.block)
            self._text(part.text, part.choice)
            return
        match part:
            case RefusalText(text, choice):
                self._text(text, choice)
            case Reasoning():
                self._reasoning(part)
            case ToolCall():
                self._piece(part)
            case BlockEnd(choice, block):
                self._close((choice, block))
            case Finish():
                self._finish(part)
            case Report():
                self.usage = part.usage if self.usage is None else self.usage.merge(part.usage)
            case Opaque():
                self._aside(part)
            case Citation():
                self.cited.cite(part)
            case Start():
                self.start = Start(self.start.id or part.id, self.start.model or part.model)
            case _:
                return

    def settle(self) -> None:
        """Signatures that found nothing to stand at are said by themselves."""
        for choice in list(self._signature):
            self._sign(choice)

    def close(self) -> None:
        """What is open is as whole as it gets."""
        for key in list(self._open):
            self._close(key)
        self.settle()

    def head(self) -> dict[str, Any]:
        """What every event, and a body, ends with."""
        told = {} if self.usage is None and not self.counts else {"usageMetadata": self.usage_metadata()}
        named = {
            "modelVersion": self.start.model or self._envelope.model,
            "responseId": self.start.id or self._envelope.id,
        }
        return {**self.reply, **told, **named}

    def usage_metadata(self) -> dict[str, Any]:
        counts = {} if self.usage is None else write_usage(self.usage)
        tools = self.counts.get("toolUsePromptTokenCount")
        if type(tools) is int and "promptTokenCount" in counts:
            # Our input includes what tools read; the total does too.
            counts["promptTokenCount"] = max(0, counts["promptTokenCount"] - tools)
        return {**counts, **self.counts}

    def grounded(self, choice: int) -> dict[str, Any]:
        """The field of a candidate that says what it cites."""
        found = grounding(self.cited, choice)
        return {} if found is None else {"groundingMetadata": found}

    def finished(self, choice: int) -> dict[str, Any]:
        """The `finishReason`, the one that was read where it means the same; of a call that cannot be said, with it."""
        broken = self._broken.get(choice)
        if broken is None or self.finish.get(choice) != MALFORMED:
            return {"finishReason": self.finish.get(choice, "STOP")}
        return {"finishReason": MALFORMED, "finishMessage": f"Malformed function call: {broken}"[:MOST_SAID]}

    def _add(self, choice: int, part: dict[str, Any]) -> None:
        self._sign(choice)
        self.parts.setdefault(choice, []).append(part)

    def _sign(self, choice: int) -> None:
        signature = self._signature.pop(choice, None)
        if signature is not None:
            self.parts.setdefault(choice, []).append({"text": "", "thoughtSignature": signature})

    def _text(self, text: str, choice: int, **more: Any) -> None:
        if not text:
            return
        said = self.parts.get(choice)
        if said and choice not in self._signature and said[-1].keys() == {"text", *more}:
            said[-1]["text"] += text
            return
        self._add(choice, {"text": text, **more})

    def _reasoning(self, part: Reasoning) -> None:
        """Seals of other vendors pass in the place of Gemini's own."""
        key = part.choice, part.block
        if part.text:
            self._thinking.add(key)
            self._text(part.text, part.choice, thought=True)
        signature = encoded(part.vendor, part.signature, part.redacted)
        if not signature or not _BASE64.fullmatch(signature):
            return
        if part.redacted is None and key not in self._thinking:
            self._sign(part.choice)
            self._signature[part.choice] = signature
        elif part.text:
            self.parts[part.choice][-1]["thoughtSignature"] = signature
        else:
            self._add(part.choice, {"text": "", "thought": True, "thoughtSignature": signature})

    def _piece(self, piece: ToolCall) -> None:
        key = piece.choice, piece.block
        call = self._open.get(key)
        if call is not None and piece.name and piece.id and call.id not in (None, piece.id):
            # Some servers send parallel calls under one number.
            self._close(key)
            call = None
        if call is None:
            call = self._open[key] = _Call()
        call.add(piece)

    def _close(self, key: tuple[int, int]) -> None:
        call = self._open.pop(key, None)
        if call is None or call.name is None:
            return
        arguments = call.arguments
        if not _is_object(arguments):
            # As Gemini itself: the call is not said, and the reply finishes by a word for it.
            self._broken[key[0]] = f"{call.name}({arguments})"
            return
        said: dict[str, Any] = {"name": call.name, "args": Raw(arguments.strip().encode() or b"{}")}
        if call.id:
            said["id"] = call.id
        part: dict[str, Any] = {"functionCall": said}
        signature = self._signature.pop(key[0], None)
        if signature is not None:
            part["thoughtSignature"] = signature
        self._add(key[0], part)

    def _finish(self, finish: Finish) -> None:
        for key in [key for key in self._open if key[0] == finish.choice]:
            self._close(key)
        if finish.choice in self._broken and finish.reason in ("stop", "tool_calls"):
            self.finish[finish.choice] = MALFORMED
            return
        kept = self._kept.get(finish.choice)
        same = kept is not None and read_finish(kept, called=finish.reason == "tool_calls") == finish.reason
        self.finish[finish.choice] = kept if kept is not None and same else write_finish(finish.reason)

    def _aside(self, part: Opaque) -> None:
        if not isinstance(part.data, dict):
            return
        if part.kind == PART:
            self._add(part.choice, part.data)
        elif part.kind == REPLY:
            self.reply.update(part.data)
        elif part.kind == USAGE:
            self.counts.update(part.data)
        elif part.kind == CANDIDATE:
            data = dict(part.data)
            kept = finish_name(data.pop("finishReason", None))
            if kept is not None:
                self._kept[part.choice] = kept
            self.fields.setdefault(part.choice, {}).update(data)


def without_copies(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a candidate less those that repeat its text: written anew, they could say what an edit took out."""
    kept = {key: value for key, value in fields.items() if key != "logprobsResult"}
    grounding = kept.get("groundingMetadata")
    if isinstance(grounding, dict) and "groundingSupports" in grounding:
        kept["groundingMetadata"] = {key: value for key, value in grounding.items() if key != "groundingSupports"}
    return kept


def _is_object(arguments: str) -> bool:
    """Whether they can be said; none are as good as an empty object."""
    if not arguments.strip():
        return True
    try:
        msgspec.json.decode(arguments, type=dict[str, Any])
    except UNREADABLE:
        return False
    return True
