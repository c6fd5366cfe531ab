"""What `guard` asks an endpoint: whether a text may pass. Whatever is no clear yes ends the call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from sidegate.contract import Host
from sidegate.errors import ProviderError, Refusal

_MOST_BYTES = 2**20
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Moderation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An endpoint that judges texts."""

    url: Annotated[str, Meta(pattern="^https?://", description="Where it is asked, by POST.")]
    kind: Annotated[
        Literal["openai", "webhook"], Meta(description="It speaks as OpenAI's `/v1/moderations`, or as a webhook.")
    ] = "openai"
    key: Annotated[str, Meta(description="Sent as `Authorization: Bearer KEY`; `${NAME}` or `key_file`.")] = ""
    model: Annotated[str, Meta(description="The model that moderates, where it is to be named.")] = ""
    timeout: Annotated[float, Meta(gt=0, le=60, description="Seconds until an answer must be there.")] = 4.0
    thresholds: Annotated[
        dict[str, Annotated[float, Meta(ge=0, le=1)]],
        Meta(description="Categories that are judged by their score: denied from this one on."),
    ] = {}
    at_once: Annotated[int, Meta(ge=1, le=1000, description="Questions at a time; more wait.")] = 16
    piece: Annotated[int, Meta(ge=100, le=100_000, description="Characters of a text that are asked as one.")] = 8000


class _Result(Struct):
    flagged: bool
    categories: dict[str, bool | None] = {}
    category_scores: dict[str, float | None] = {}


class _Results(Struct):
    results: list[_Result]


class _Verdict(Struct):
    allow: bool
    rule: str | None = None


_RESULTS = msgspec.json.Decoder(_Results)
_VERDICT = msgspec.json.Decoder(_Verdict)


class Moderator:
    """Asks, so many questions at a time."""

    def __init__(self, settings: Moderation, host: Host) -> None:
        self._settings = settings
        self._http = host.http
        self._room = asyncio.Semaphore(settings.at_once)
        self._headers = {"Content-Type": "application/json"}
        if settings.key:
            self._headers["Authorization"] = f"Bearer {settings.key}"

    async def objection(self, texts: Sequence[str], stage: str, call_id: str) -> str | None:
        """The rule by which the texts are denied; `None` where they may pass. Raises `Refusal` where nobody can say."""
        size = self._settings.piece
        pieces = [text[at : at + size] for text in texts for at in range(0, len(text), size)]
        pieces = [piece for piece in pieces if piece.strip()]
        if not pieces:
            return None
        try:
            async with asyncio.timeout(self._settings.timeout), self._room:
                answer = await self._asked(pieces, stage, call_id)
            return self._webhook(answer) if self._settings.kind == "webhook" else self._openai(answer, len(pieces))
        except (ProviderError, TimeoutError, *_UNREADABLE) as error:
            raise Refusal(
                503, "moderation_unavailable", "The text could not be checked, so it does not pass.", retry_after=1
            ) from error

    async def _asked(self, pieces: list[str], stage: str, call_id: str) -> bytes:
        body: dict[str, object] = {"input": pieces}
        if self._settings.kind == "webhook":
            body = {"call": call_id, "stage": stage, "texts": pieces}
        if self._settings.model:
            body["model"] = self._settings.model
        timeout = self._settings.timeout
        encoded = msgspec.json.encode(body)
        return await self._http.post(self._settings.url, encoded, self._headers, timeout=timeout, max_bytes=_MOST_BYTES)

    def _webhook(self, answer: bytes) -> str | None:
        verdict = _VERDICT.decode(answer)
        return None if verdict.allow else _word(verdict.rule or "webhook")

    def _openai(self, answer: bytes, count: int) -> str | None:
        results = _RESULTS.decode(answer).results
        if len(results) != count:
            raise msgspec.ValidationError("another number of results than of texts")
        return next((rule for result in results if (rule := self._denied(result)) is not None), None)

    def _denied(self, result: _Result) -> str | None:
        """Categories with a threshold are judged by their score alone, all others by the endpoint."""
        limits = self._settings.thresholds
        for category, limit in limits.items():
            score = result.category_scores.get(category)
            if score is None and category not in result.categories:
                raise msgspec.ValidationError("a category with a threshold has no score")
            if score is not None and score >= limit:
                return _word(category)
        flagged = [name for name, said in result.categories.items() if said]
        if any(name not in limits for name in flagged):
            return _word(next(name for name in flagged if name not in limits))
        return "flagged" if result.flagged and not flagged else None


def _word(name: str) -> str:
    """A rule's name as it is told: somebody else's word, so bounded and harmless."""
    return "".join(letter if letter.isalnum() or letter in "-_/. " else "_" for letter in name[:60])
