"""How many tokens a request has: Gemini's `countTokens`. Source: https://ai.google.dev/api/tokens."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from sidegate.contract.meaning import Request
from sidegate.wire.body import encode, value
from sidegate.wire.counting import Counts, count_of, no_count, read_object
from sidegate.wire.dialect import Fields
from sidegate.wire.gemini.dialect import GeminiGenerate, InPath
from sidegate.wire.gemini.errors import error_inside
from sidegate.wire.gemini.path import resource

_GENERATE = GeminiGenerate()
_INNER = "generateContentRequest"


class GeminiCountTokens(Counts, InPath):
    """The `Dialect` of `countTokens`, whose request may hold a whole one for `generateContent`."""

    name = "gemini.count_tokens"
    operation = "count_tokens"
    key = "totalTokens"
    method = "countTokens"

    def read_request(self, fields: Fields) -> Request:
        inner = value(fields, _INNER, dict[str, Raw])
        if inner is None:
            return _GENERATE.read_request(fields)
        return _GENERATE.read_request(_GENERATE.place(inner, model=value(fields, "model", str) or "", stream=False))

    def write_request(self, request: Request, dropped: list[str]) -> dict[str, Any]:
        written = {name: encode(each) for name, each in _GENERATE.write_request(request, dropped).items()}
        inner = _GENERATE.adapt(written, model=request.model, stream=False)
        return {"model": request.model, _INNER: {**inner, "model": resource(request.model)}}

    def adapt(self, fields: Fields, *, model: str, stream: bool) -> Fields:
        """A whole request within names its model too, and does not go with its contents outside."""
        adapted = super().adapt(fields, model=model, stream=stream)
        inner = value(adapted, _INNER, dict[str, Raw])
        if inner is not None:
            adapted.pop("contents", None)
            adapted[_INNER] = encode({**inner, "model": resource(model)})
        return adapted

    def read_count(self, raw: bytes) -> int:
        """Proto3 leaves out a 0."""
        said = read_object(raw)
        if said.get("error") is not None:
            raise error_inside(raw)
        if "totalTokens" not in said and not said.keys() <= {"cachedContentTokenCount", "promptTokensDetails"}:
            raise no_count()
        return count_of(said.get("totalTokens", 0))
