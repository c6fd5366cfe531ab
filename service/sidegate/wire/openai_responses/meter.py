"""The meter of OpenAI's Responses: what the gateway must know of every reply, decoded once per event."""

from __future__ import annotations

from functools import partial
from typing import Any

from sidegate.contract.chunk import Reader
from sidegate.contract.meaning import FinishReason, Usage
from sidegate.errors import ProviderError
from sidegate.wire.dialect import Sign
from sidegate.wire.openai import text_size
from sidegate.wire.openai_responses import event as wire
from sidegate.wire.openai_responses.reply import CUSTOM_INPUT, Before, finish_of, pieces, read_event
from sidegate.wire.openai_responses.usage import read_usage

CONTENT = Sign.CONTENT
TOLD = ("message", "reasoning", *wire.CALLS)
"""Items whose content has parts; others are counted by their pieces."""

# Where the piece of a delta belongs in its item: a text by its own index, a summary apart.
_PLACES: dict[str, int | None] = {
    "response.output_text.delta": None,
    "response.refusal.delta": None,
    "response.reasoning_text.delta": 0,
    "response.reasoning_summary_text.delta": wire.SUMMARY,
    "response.function_call_arguments.delta": 0,
    CUSTOM_INPUT: 0,
}


class ResponsesMeter:
    """A `Meter` for one reply."""

    __slots__ = (
        "_begun",
        "_called",
        "_heard",
        "_last",
        "_refused",
        "finish",
        "finished",
        "id",
        "model",
        "output_bytes",
        "reader",
        "started",
        "usage",
    )

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish: FinishReason | None = None
        self.model: str | None = None
        self.id: str | None = None
        self.output_bytes = 0
        self.started = False
        self.finished = False
        self.reader: Reader | None = None
        self._heard: dict[int, set[int]] = {}
        self._begun: set[int] = set()
        self._last: tuple[Any, Any, Any] = ("", None, None)
        self._called = False
        self._refused = False

    def event(self, raw: bytes) -> Sign:
        data = wire.payload(raw)
        if data is None:
            return Sign.NOTHING
        self.reader = None
        event = wire.read_event(data)
        if event.delta:
            return self._delta(event)
        match event.type:
            case "response.output_item.added":
                return self._item(event)
            case "response.output_item.done":
                return self._item_done(event)
            case "response.created":
                self._name(wire.read_response(event.response))
                return self._aside()
            case "response.completed" | "response.incomplete":
                return self._end(event)
            case "response.failed":
                self._report(wire.read_response(event.response) if event.response else wire.Response())
                raise wire.error_inside(event.response)
            case _:
                return self._aside()

    def whole(self, raw: bytes) -> None:
        try:
            response, items, _ = wire.read_whole(raw)
        except ProviderError:
            # What failed has used something all the same.
            self._report(wire.read_response(raw))
            raise
        self._name(response)
        self._report(response)
        for item in items:
            self._count_item(item)
        self.finish = finish_of(response, items)
        self.started = self.finished = True

    def _delta(self, event: wire.Event) -> Sign:
        """A piece of what is said, of a kind that is known or not: code, what a provider's own tools are given."""
        delta = event.delta
        if not isinstance(delta, str):
            return self._aside()
        self.output_bytes += len(delta) if delta.isascii() else text_size(delta)
        place = event.type, event.output_index, event.content_index
        if place != self._last:
            # Nearly every event goes on with what the one before it said.
            self._last = place
            self._began(event)
        self.started = True
        return CONTENT

    def _began(self, event: wire.Event) -> None:
        """The first piece of a block."""
        if event.type in _PLACES:
            block = wire.block_of(event, _PLACES[event.type])
            self._heard.setdefault(block // wire.WIDTH, set()).add(block)
            self._refused = self._refused or event.type == "response.refusal.delta"

    def _item(self, event: wire.Event) -> Sign:
        """A message or a reasoning begins with nothing in it; any other item tells something already."""
        block = wire.block_of(event, 0)
        item = wire.read_item(event.item)
        self._begun.add(block)
        if item.type in ("message", "reasoning"):
            return self._aside()
        if item.calls:
            self._called = True
            if item.given:
                self._heard.setdefault(block // wire.WIDTH, set()).add(block)
                self.output_bytes += text_size(item.given)
        self.started = True
        return CONTENT

    def _item_done(self, event: wire.Event) -> Sign:
        """The end of an item. Servers that send no pieces say all of it here."""
        block = wire.block_of(event, 0)
        item = wire.read_item(event.item)
        begun = block in self._begun
        self._begun.add(block)
        self._called = self._called or item.calls
        heard = frozenset(self._heard.get(block // wire.WIDTH, ()))
        if begun and heard and item.type != "reasoning":
            return self._aside()
        self.reader = partial(read_event, before=Before(heard, begun))
        before = self.output_bytes
        if not heard and (item.type in TOLD or not begun):
            self._count_item(item)
        said = self.output_bytes > before or not begun or item.encrypted_content
        if said:
            self.started = True
        return CONTENT if said else self._aside()

    def _end(self, event: wire.Event) -> Sign:
        response = wire.read_response(event.response)
        self._name(response)
        self._report(response)
        told = bool(self._begun)
        before = Before(called=self._called, refused=self._refused, told=told)
        items: list[wire.Item] = []
        if not told and wire.read_object(event.response).get("output"):
            items = wire.read_whole(bytes(event.response))[1]
            for item in items:
                self._count_item(item)
        self.finish = finish_of(response, items, before)
        self.reader = partial(read_event, before=before)
        self.started = self.finished = True
        return Sign.END

    def _name(self, response: wire.Response) -> None:
        if self.id is None and isinstance(response.id, str) and response.id:
            self.id = response.id
        if self.model is None and isinstance(response.model, str) and response.model:
            self.model = response.model

    def _report(self, response: wire.Response) -> None:
        found = read_usage(response.usage)
        if found is not None:
            self.usage = found if self.usage is None else self.usage.merge(found)

    def _count_item(self, item: wire.Item) -> None:
        told = [*wire.texts(item.content), *wire.texts(item.summary)]
        for piece in pieces(item.content):
            refusal = piece.get("refusal")
            if refusal and isinstance(refusal, str):
                self._refused = True
                told.append(refusal)
        for given in (item.arguments, item.input):
            if isinstance(given, str):
                told.append(given)
        self.output_bytes += sum(map(text_size, told))

    def _aside(self) -> Sign:
        return Sign.OTHER if self.started else Sign.LEAD_IN
