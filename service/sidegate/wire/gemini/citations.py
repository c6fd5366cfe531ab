"""Citations of Gemini, read and written: grounding in pages and documents, and texts that repeat a known one.

Sources: https://ai.google.dev/api/generate-content#GroundingMetadata and #CitationMetadata. Places are in bytes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sidegate.contract.meaning import Citation
from sidegate.wire.citing import Cited

GENERATE = "gemini.generate"


def read_citations(candidate: dict[str, Any], choice: int, block: int, text: str | None) -> list[Citation]:
    """What a candidate cites. `text` is all it says, where that is known: else places in bytes cannot be told."""
    return [
        *_grounded(candidate.get("groundingMetadata"), choice, block, text),
        *_repeated(candidate, choice, block, text),
    ]


def _grounded(grounding: Any, choice: int, block: int, text: str | None) -> Iterator[Citation]:
    if not isinstance(grounding, dict):
        return
    sources = [_source(one) for one in _dicts(grounding.get("groundingChunks"))]
    supports = _dicts(grounding.get("groundingSupports"))
    for support in supports:
        segment = support.get("segment")
        segment = segment if isinstance(segment, dict) else {}
        words = segment.get("text")
        words = words if isinstance(words, str) and words else None
        start, end = _place(segment.get("startIndex", 0), segment.get("endIndex"), text)
        numbers = support.get("groundingChunkIndices")
        for number in numbers if isinstance(numbers, list) else ():
            if type(number) is int and 0 <= number < len(sources):
                url, title = sources[number]
                yield Citation(url, title, None, start, end, words, choice, block, GENERATE)
    if not supports:
        yield from (Citation(url, title, choice=choice, block=block, origin=GENERATE) for url, title in sources)


def _repeated(candidate: dict[str, Any], choice: int, block: int, text: str | None) -> Iterator[Citation]:
    metadata = candidate.get("citationMetadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    for one in _dicts(metadata.get("citationSources", metadata.get("citations"))):
        start, end = _place(one.get("startIndex", 0), one.get("endIndex"), text)
        yield Citation(_word(one.get("uri")), _word(one.get("title")), None, start, end, None, choice, block, GENERATE)


def _source(chunk: dict[str, Any]) -> tuple[str | None, str | None]:
    told = next((one for one in chunk.values() if isinstance(one, dict)), {})
    return _word(told.get("uri")), _word(told.get("title"))


def _place(start: Any, end: Any, text: str | None) -> tuple[int | None, int | None]:
    if text is None or type(start) is not int or type(end) is not int or not 0 <= start <= end:
        return None, None
    data = text.encode("utf-8", "surrogatepass")
    if end > len(data):
        return None, None
    return len(data[:start].decode("utf-8", "ignore")), len(data[:end].decode("utf-8", "ignore"))


def grounding(cited: Cited, choice: int) -> dict[str, Any] | None:
    """What other dialects cite, as grounding in pages; Gemini's own is passed on as it came."""
    text = cited.text(choice)
    sources: list[dict[str, Any]] = []
    supports: list[dict[str, Any]] = []
    for citation, start, end in cited.placed(choice):
        if citation.url is None or citation.origin == GENERATE:
            continue
        source = {"web": {"uri": citation.url, "title": citation.title or citation.url}}
        if source not in sources:
            sources.append(source)
        segment = {"startIndex": _bytes(text[:start]), "endIndex": _bytes(text[:end]), "text": text[start:end]}
        supports.append({"segment": segment, "groundingChunkIndices": [sources.index(source)]})
    return {"groundingChunks": sources, "groundingSupports": supports} if sources else None


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
