"""Details of reasoning: the place that OpenAI's chats have for signatures, by OpenRouter's widely read convention.

Source: https://openrouter.ai/docs/use-cases/reasoning-tokens. A client that gives back `reasoning_details` gives back
what they bind. OpenAI's own chats have none, so that they are written for clients and never for providers.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sidegate.contract.meaning import Reasoning, ReasoningContent
from sidegate.wire.seals import ANTHROPIC, GEMINI, OPENAI

_FORMATS: Mapping[str, str] = MappingProxyType(
    {ANTHROPIC: "anthropic-claude-v1", GEMINI: "google-gemini-v1", OPENAI: "openai-responses-v1"}
)
_VENDORS = {format.rpartition("-")[0]: vendor for vendor, format in _FORMATS.items()}


class Details:
    """The details of one reply: what each thought said, until its signature comes."""

    def __init__(self) -> None:
        self._said: dict[tuple[int, int], list[str]] = {}
        self._count = 0

    def take(self, part: Reasoning) -> dict[str, Any] | None:
        """The detail that a part completes."""
        key = part.choice, part.block
        if part.text:
            self._said.setdefault(key, []).append(part.text)
        if part.vendor is None or not (part.signature or part.redacted):
            return None
        text = "".join(self._said.pop(key, ()))
        index, self._count = self._count, self._count + 1
        told = {"format": _FORMATS.get(part.vendor, "unknown"), "index": index}
        if part.redacted is not None:
            return {"type": "reasoning.encrypted", "data": part.redacted, **told}
        if text:
            return {"type": "reasoning.text", "text": text, "signature": part.signature, **told}
        return {"type": "reasoning.encrypted", "data": part.signature, **told}


def read_details(details: list[dict[str, Any]], reasoning: str) -> list[ReasoningContent]:
    """The thoughts of an earlier turn. `reasoning` are the words beside them, which the details may repeat or not."""
    found = [thought for one in details if (thought := _read(one)) is not None]
    if reasoning and not any(thought.text for thought in found):
        # Encrypted by a vendor that tells a summary: the words are of the only thought, or of one before all.
        if len(found) == 1 and found[0].signature is not None:
            return [ReasoningContent(reasoning, found[0].signature, None, found[0].vendor)]
        return [ReasoningContent(reasoning), *found]
    return found


def _read(detail: dict[str, Any]) -> ReasoningContent | None:
    vendor = _vendor(detail.get("format"))
    text, signature, data = (_word(detail.get(name)) for name in ("text", "signature", "data"))
    match detail.get("type"):
        case "reasoning.text" if text or signature:
            return ReasoningContent(text or "", signature, None, vendor if signature else None)
        case "reasoning.encrypted" if data and vendor == ANTHROPIC:
            return ReasoningContent(redacted=data, vendor=vendor)
        case "reasoning.encrypted" if data:
            return ReasoningContent(signature=data, vendor=vendor)
        case _:
            return None


def _vendor(format: Any) -> str:
    """Whose a detail is. One that nobody knows is good with nobody."""
    return _VENDORS.get(format.rpartition("-")[0], "unknown") if isinstance(format, str) else "unknown"


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
