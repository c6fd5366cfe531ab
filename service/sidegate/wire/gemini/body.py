"""Parts into a whole body of Gemini, fresh or on the body a provider sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.json import Encoder as JsonEncoder

from sidegate.contract.meaning import Part, Start
from sidegate.errors import ReplyError
from sidegate.wire.body import UNREADABLE
from sidegate.wire.dialect import Envelope
from sidegate.wire.gemini.event import choice_index
from sidegate.wire.gemini.reply import read_whole
from sidegate.wire.gemini.saying import Saying, without_copies

_json = JsonEncoder().encode


class GeminiAssembler:
    """An `Assembler` for one reply."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._saying = Saying(envelope)

    def add(self, parts: Iterable[Part]) -> None:
        for part in parts:
            self._saying.take(part)

    def body(self, base: bytes | None = None) -> bytes:
        """The whole body; on `base`, what the parts say otherwise is replaced, and the rest stays."""
        self._saying.close()
        whole = None if base is None else _object(base)
        if whole is not None and base is not None:
            return _json(self._over(whole, base))
        saying = self._saying
        choices = sorted(saying.parts.keys() | saying.finish.keys())
        if not saying.parts and "promptFeedback" in saying.reply:
            return _json(saying.head())
        return _json({"candidates": [self._fresh(choice) for choice in choices or [0]], **saying.head()})

    def _fresh(self, choice: int) -> dict[str, Any]:
        saying = self._saying
        content = {"parts": saying.parts.get(choice, [{"text": ""}]), "role": "model"}
        fields = without_copies(saying.fields.get(choice, {}))
        said = {"content": content, **saying.finished(choice), "index": choice}
        return {**said, **saying.grounded(choice), **fields}

    def _over(self, whole: dict[str, Any], base: bytes) -> dict[str, Any]:
        before = Saying(self._envelope)
        for part in read_whole(base):
            before.take(part)
        before.close()
        after = self._saying
        candidates = [one for one in whole.get("candidates") or [] if isinstance(one, dict)]
        places = [choice_index(one.get("index"), place) for place, one in enumerate(candidates)]
        for choice, candidate in zip(places, candidates, strict=True):
            _rewrite(candidate, choice, before, after)
        candidates += [self._fresh(choice) for choice in sorted(after.parts.keys() - set(places))]
        if candidates:
            whole["candidates"] = candidates
        for name in before.reply.keys() - after.reply.keys():
            whole.pop(name, None)
        whole.update({name: value for name, value in after.reply.items() if before.reply.get(name) != value})
        if after.usage != before.usage and after.usage is not None:
            whole["usageMetadata"] = after.usage_metadata()
        if after.start != before.start:
            _rename(whole, after.start)
        return whole


def _rewrite(candidate: dict[str, Any], choice: int, before: Saying, after: Saying) -> None:
    said = after.parts.get(choice, [])
    if said != before.parts.get(choice, []):
        content = candidate.get("content")
        kept = content if isinstance(content, dict) else {"role": "model"}
        stripped = without_copies(candidate)
        candidate.clear()
        candidate.update({**stripped, "content": {**kept, "parts": said or [{"text": ""}]}})
    was, now = before.fields.get(choice, {}), after.fields.get(choice, {})
    for name in was.keys() - now.keys():
        candidate.pop(name, None)
    candidate.update({name: value for name, value in now.items() if was.get(name) != value})
    if choice in after.finish and after.finish.get(choice) != before.finish.get(choice):
        candidate.update(after.finished(choice))


def _rename(whole: dict[str, Any], start: Start) -> None:
    whole["responseId"] = start.id or whole.get("responseId")
    whole["modelVersion"] = start.model or whole.get("modelVersion")


def _object(base: bytes) -> dict[str, Any] | None:
    """The body; `None` for an array, which is written anew."""
    try:
        decoded = msgspec.json.decode(base)
    except UNREADABLE as error:
        raise ReplyError("The provider's reply is not JSON.") from error
    return decoded if isinstance(decoded, dict) else None
