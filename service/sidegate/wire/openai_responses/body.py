"""Parts into a whole response of OpenAI's Responses, fresh or over the body that a provider sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.json import Encoder as JsonEncoder

from sidegate.contract.meaning import Part
from sidegate.wire.openai_responses import event as wire
from sidegate.wire.openai_responses.reply import pieces, read_whole
from sidegate.wire.openai_responses.usage import write_usage
from sidegate.wire.openai_responses.writer import ResponsesWriter

_json = JsonEncoder().encode


class ResponsesAssembler(ResponsesWriter):
    """An `Assembler` for one reply."""

    def add(self, parts: Iterable[Part]) -> None:
        self.take(parts)

    def body(self, base: bytes | None = None) -> bytes:
        """The whole response; on `base`, what the parts say otherwise is replaced, and the rest stays."""
        return _json(self.ended() if base is None else self._over(wire.read_object(base), base))

    def _over(self, kept: dict[str, Any], base: bytes) -> dict[str, Any]:
        before = ResponsesAssembler(self._envelope)
        before.add(read_whole(base))
        was, now = before.ended(), self.ended()
        kept["output"] = _items(now["output"], was["output"], kept["output"])
        for name in ("id", "model", "status", "incomplete_details", "error"):
            if now[name] != was[name]:
                kept[name] = now[name]
        kept |= {name: value for name, value in self._fields.items() if value != before._fields.get(name)}
        if self._usage != before._usage and (usage := write_usage(self._usage)) is not None:
            kept["usage"] = {**(kept.get("usage") or {}), **usage}
        return kept


def _items(now: list[dict[str, Any]], was: list[dict[str, Any]], kept: list[Any]) -> list[Any]:
    """The items; one that says what it said is the one that came, another keeps the fields that nobody knows."""
    # An item in which nothing is said is not gathered: it is found by its id, and stays out where its words went.
    came = {item.get("id"): item for item in kept if isinstance(item, dict)}
    told = {item["id"]: item for item in was if "id" in item}
    found: list[Any] = []
    for item in now:
        original = came.get(item.get("id"))
        if original is None:
            found.append(item)
        elif told.get(item.get("id")) == item:
            found.append(original)
        else:
            found.append({**original, **item, **_content(item, told.get(item.get("id"), {}), original)})
    return found


def _content(item: dict[str, Any], told: dict[str, Any], original: dict[str, Any]) -> dict[str, Any]:
    """The parts of a changed item: those that stayed, with what they cite, keep what is not known of them."""
    if "content" not in item:
        return {}
    before, said = pieces(original.get("content")), pieces(told.get("content"))
    content: list[dict[str, Any]] = []
    for place, piece in enumerate(item["content"]):
        was = before[place] if place < len(before) else {}
        cited = said[place].get("annotations") if place < len(said) else None
        same = all(was.get(name) == piece.get(name) for name in ("type", "text", "refusal"))
        same = same and cited == piece.get("annotations")
        content.append(was if same else piece)
    return {"content": content}
