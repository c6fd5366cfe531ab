"""Output items of OpenAI's Responses while they are written: what was said of each, and the item it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sidegate.contract.meaning import Citation
from sidegate.wire.citing import place
from sidegate.wire.openai import write_citation
from sidegate.wire.openai_responses.event import CUSTOM
from sidegate.wire.openai_responses.reply import RESPONSES

Say = Callable[[str, dict[str, Any]], None]
"""Tells of an event: its type and its fields."""


class Piece:
    """A content part of a message, a part of a summary, or raw reasoning."""

    def __init__(self, kind: str, block: int) -> None:
        self.kind = kind
        """`output_text`, `refusal`, `summary_text`, `reasoning_text`."""
        self.block = block
        self.said: list[str] = []
        self.open = True
        self.where: dict[str, Any] = {}
        """Its place, for events."""
        self.cited: list[Citation] = []

    @property
    def text(self) -> str:
        return "".join(self.said)

    @property
    def annotations(self) -> list[Any]:
        """What is cited: as it came where it came from this dialect, and still fits."""
        text = self.text if self.cited else ""
        found: list[Any] = []
        for citation in self.cited:
            if citation.origin == RESPONSES and citation.data is not None:
                found.append(citation.data)
            elif (told := write_citation(place(citation, text, 0, len(text)))) is not None:
                found.append({"type": "url_citation", **told})
        return found

    def part(self, *, begun: bool = False) -> dict[str, Any]:
        """The part; `begun`: as it begins, with nothing in it."""
        text = "" if begun else self.text
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        if self.kind != "output_text":
            return {"type": self.kind, "text": text}
        return {"type": self.kind, "annotations": [] if begun else self.annotations, "logprobs": [], "text": text}


_NAMES = {
    # added, delta, done, done of the part, and where the place of the part stands
    "output_text": ("content_part.added", "output_text.delta", "output_text.done", "content_part.done"),
    "refusal": ("content_part.added", "refusal.delta", "refusal.done", "content_part.done"),
    "reasoning_text": ("content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done"),
    "summary_text": (
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
    ),
}


class Item:
    """An output item. Its events go to `say`."""

    kind = ""

    def __init__(self, say: Say, index: int, id: str, fields: dict[str, Any]) -> None:
        self._say = say
        self.index = index
        self.id = id
        self.fields = fields
        """What was said of it in its own dialect."""
        self.open = True
        self.status = ""
        """As its own dialect told it, or how the reply ended; else `completed`."""

    def body(self, *, begun: bool = False) -> dict[str, Any]:
        """The item; `begun`: as it begins."""
        raise NotImplementedError

    def begin(self) -> None:
        self._say("response.output_item.added", {"output_index": self.index, "item": self.body(begun=True)})

    def end(self) -> None:
        """Close it, and what is open in it."""
        if self.open:
            self._end()
            self.open = False
            self._say("response.output_item.done", {"output_index": self.index, "item": self.body()})

    def _end(self) -> None:
        """What closes before it."""


class Pieced(Item):
    """An item made of parts: a message, or a reasoning."""

    def __init__(self, say: Say, index: int, id: str, fields: dict[str, Any]) -> None:
        super().__init__(say, index, id, fields)
        self.pieces: list[Piece] = []
        self._where: dict[str, Any] = {}
        self._counts = {True: 0, False: 0}

    @property
    def last(self) -> Piece | None:
        """The part that is open."""
        return self.pieces[-1] if self.pieces and self.pieces[-1].open else None

    def add(self, kind: str, block: int, text: str) -> None:
        """A piece of text; a part begins where it belongs to another than the one that is open."""
        piece = self.last
        if piece is None or piece.kind != kind or piece.block != block:
            piece = self.another(kind, block)
        piece.said.append(text)
        logprobs: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
        self._say("response." + _NAMES[kind][1], {**self._where, "delta": text, **logprobs})

    def another(self, kind: str, block: int) -> Piece:
        """The next part."""
        self.end_piece()
        summed = kind == "summary_text"
        place = self._counts[summed]
        self._counts[summed] += 1
        piece = Piece(kind, block)
        self.pieces.append(piece)
        at = "summary_index" if summed else "content_index"
        self._where = piece.where = {"item_id": self.id, "output_index": self.index, at: place}
        self._say("response." + _NAMES[kind][0], {**self._where, "part": piece.part(begun=True)})
        return piece

    def end_piece(self) -> None:
        piece = self.last
        if piece is None:
            return
        piece.open = False
        self._annotate(piece, 0)
        text = {"refusal": piece.text} if piece.kind == "refusal" else {"text": piece.text}
        logprobs: dict[str, Any] = {"logprobs": []} if piece.kind == "output_text" else {}
        _, _, done, part_done = _NAMES[piece.kind]
        self._say("response." + done, {**self._where, **text, **logprobs})
        self._say("response." + part_done, {**self._where, "part": piece.part()})

    def cite(self, citation: Citation) -> bool:
        """A text of this item rests on it; whether it has such a text. Behind the end of a text it is told at once."""
        piece = next((one for one in reversed(self.pieces) if one.block == citation.block), None)
        if piece is None or piece.kind != "output_text":
            return False
        if citation not in piece.cited:
            told = len(piece.annotations)
            piece.cited.append(citation)
            if not piece.open:
                self._annotate(piece, told)
        return True

    def _annotate(self, piece: Piece, first: int) -> None:
        """Tells what a text rests on, from this number on."""
        for number, annotation in enumerate(piece.annotations if piece.cited else ()):
            if number >= first:
                told = {**piece.where, "annotation_index": number, "annotation": annotation}
                self._say("response.output_text.annotation.added", told)

    def parts(self, *kinds: str) -> list[dict[str, Any]]:
        return [piece.part() for piece in self.pieces if piece.kind in kinds]

    def _end(self) -> None:
        self.end_piece()


class MessageItem(Pieced):
    """What the model says, or how it declines."""

    kind = "message"

    def body(self, *, begun: bool = False) -> dict[str, Any]:
        content = [] if begun else self.parts("output_text", "refusal")
        said = {"id": self.id, "type": "message", "role": "assistant", "content": content}
        return {**said, **self.fields, "status": "in_progress" if begun else self.status or "completed"}


class ReasoningItem(Pieced):
    """What the model thinks: a summary, its raw words, what seals them, or any of these."""

    kind = "reasoning"

    def __init__(self, say: Say, index: int, id: str, fields: dict[str, Any]) -> None:
        super().__init__(say, index, id, fields)
        self.sealed: str | None = None

    def body(self, *, begun: bool = False) -> dict[str, Any]:
        said: dict[str, Any] = {"id": self.id, "type": "reasoning", "summary": [], **self.fields}
        if begun:
            return said
        said["summary"] = self.parts("summary_text")
        if content := self.parts("reasoning_text"):
            said["content"] = content
        if self.sealed is not None:
            said["encrypted_content"] = self.sealed
        return said


class CallItem(Item):
    """A call of a function."""

    kind = "function_call"
    given = "arguments"
    """The name of what it is given."""
    telling = "response.function_call_arguments"
    silence = "{}"
    """What one is given that came without anything: clients parse it."""

    def __init__(
        self, say: Say, index: int, id: str, fields: dict[str, Any], *, call_id: str, name: str, block: int
    ) -> None:
        super().__init__(say, index, id, fields)
        self.call_id = call_id
        self.name = name
        self.block = block
        self._given: list[str] = []

    def add(self, arguments: str) -> None:
        if arguments:
            self._given.append(arguments)
            where = {"item_id": self.id, "output_index": self.index}
            self._say(self.telling + ".delta", {**where, "delta": arguments})

    def body(self, *, begun: bool = False) -> dict[str, Any]:
        said = {"id": self.id, "type": self.kind, "call_id": self.call_id, "name": self.name}
        given = "" if begun else "".join(self._given)
        return {
            **said,
            **self.fields,
            self.given: given,
            "status": "in_progress" if begun else self.status or "completed",
        }

    def _end(self) -> None:
        if not self._given and self.status != "incomplete":
            self.add(self.silence)
        where = {"item_id": self.id, "output_index": self.index}
        self._say(self.telling + ".done", {**where, self.given: "".join(self._given)})


class CustomCallItem(CallItem):
    """A call of a custom tool, which takes words of any form."""

    kind = CUSTOM
    given = "input"
    telling = "response.custom_tool_call_input"
    silence = ""


class OtherItem(Item):
    """An item without a word of ours, told as it came."""

    def body(self, *, begun: bool = False) -> dict[str, Any]:
        return self.fields
