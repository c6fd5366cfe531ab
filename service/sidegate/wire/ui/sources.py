"""What a reply rests on, and files it brings, as chunks of a UI message: `source-url`, `source-document`, `file`.

Citations are words of the meaning; the rest is found in what providers say aside: annotations of other kinds of OpenAI,
grounding and inline data of Gemini, images that OpenAI's tool made. A source is told once. An address that is
none of the web's is left out: a page makes links of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sidegate.contract.meaning import Citation, Opaque
from sidegate.wire.anthropic.block import MESSAGES
from sidegate.wire.gemini.reply import CANDIDATE, PART
from sidegate.wire.openai_chat.reply import OPAQUE
from sidegate.wire.openai_responses.event import ITEM_DONE

_WEB = ("http://", "https://")
_BYTES = "application/octet-stream"

Chunk = dict[str, Any]


class Sources:
    """Those of one reply."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def of(self, part: Opaque | Citation) -> Iterator[Chunk]:
        """The chunks for what `part` tells; `kind` is their type."""
        for chunk in _chunks(part.kind, part.data) if isinstance(part, Opaque) else _citation(part):
            what = chunk.get("url") or chunk.get("title")
            if chunk["kind"] == "file":
                yield chunk
            elif isinstance(what, str) and what not in self._told:
                self._told.add(what)
                yield {"kind": chunk.pop("kind"), "sourceId": f"source_{len(self._told)}", **chunk}


def _citation(part: Citation) -> Iterator[Chunk]:
    """By its address; documents without one by what their provider says of them."""
    if part.url is not None and part.url.startswith(_WEB):
        yield _url(part.url, part.title)
    elif isinstance(part.data, dict):
        yield from _cited(part.data) if part.origin == MESSAGES else _annotated(part.data)


def _chunks(kind: str, data: Any) -> Iterator[Chunk]:
    match kind, data:
        case _, [*annotations] if kind == OPAQUE + "annotations":
            for annotation in annotations:
                yield from _annotated(annotation)
        case _, {"groundingMetadata": {"groundingChunks": [*grounds]}} if kind == CANDIDATE:
            for ground in grounds:
                yield from _grounded(ground)
        case _, {"inlineData": {"data": str(content), **blob}} if kind == PART:
            yield _file(content, blob.get("mimeType"))
        case _, {"type": "image_generation_call", "result": str(content), **item} if kind == ITEM_DONE:
            yield _file(content, f"image/{item.get('output_format') or 'png'}")
        case _:
            return


def _cited(citation: Chunk) -> Iterator[Chunk]:
    """Anthropic's: https://platform.claude.com/docs/en/build-with-claude/citations."""
    match citation:
        case {"url": str(url)} | {"type": "search_result_location", "source": str(url)} if url.startswith(_WEB):
            yield _url(url, citation.get("title"))
        case {"type": "search_result_location", "source": str(source)}:
            yield _document("text/plain", citation.get("title") or source)
        case {"document_index": int(index)}:
            paged = citation.get("type") == "page_location"
            title = citation.get("document_title") or f"Document {index}"
            yield _document("application/pdf" if paged else "text/plain", title)
        case _:
            return


def _annotated(annotation: Any) -> Iterator[Chunk]:
    """OpenAI's; in Chat Completions a citation lies a level deeper."""
    match annotation:
        case {"url_citation": {"url": str(url), **told}} | {"type": "url_citation", "url": str(url), **told}:
            if url.startswith(_WEB):
                yield _url(url, told.get("title"))
        case {"type": "file_citation", "filename": str(name)} if name:
            yield {**_document("text/plain", name), "filename": name}
        case _:
            return


def _grounded(ground: Any) -> Iterator[Chunk]:
    """Gemini's: https://ai.google.dev/gemini-api/docs/google-search."""
    match ground:
        case {"web": {"uri": str(url), **told}} | {"retrievedContext": {"uri": str(url), **told}}:
            if url.startswith(_WEB):
                yield _url(url, told.get("title"))
        case {"retrievedContext": {"title": str(title)}} if title:
            yield _document("text/plain", title)
        case _:
            return


def _url(url: str, title: Any) -> Chunk:
    return {"kind": "source-url", "url": url, **({"title": title} if isinstance(title, str) and title else {})}


def _document(media_type: str, title: Any) -> Chunk:
    return {"kind": "source-document", "mediaType": media_type, "title": str(title)}


def _file(content: str, media_type: Any) -> Chunk:
    named = media_type if isinstance(media_type, str) and media_type else _BYTES
    return {"kind": "file", "url": f"data:{named};base64,{content}", "mediaType": named}
