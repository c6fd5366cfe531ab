"""Gemini's paths: the model and the method stand in them, and a stream is SSE with `alt=sse`, else a JSON array."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping

from aiohttp import web

from sidegate.contract.plugin import Handler
from sidegate.contract.timeouts import TimeoutChanges
from sidegate.errors import BadRequest, SidegateError
from sidegate.http.accepting import Answering, accepting
from sidegate.http.calls import CallEndpoint, Placed
from sidegate.http.sinks import Streamed, StreamSink
from sidegate.service import Service
from sidegate.settings import Route
from sidegate.wire import sse
from sidegate.wire.dialect import Dialect
from sidegate.wire.gemini.path import plain
from sidegate.wire.registry import DIALECTS

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]

VERSIONS = ("v1beta", "v1", "v1alpha", "v1beta1")
"""Of the API, as clients say them; the last is Vertex AI's. Which one a provider is asked at, its base URL says."""

_METHODS = {
    "generateContent": "gemini.generate",
    "embedContent": "gemini.embed",
    "batchEmbedContents": "gemini.batch_embed",
    "countTokens": "gemini.count_tokens",
}
_WAIT = re.compile(r"\d{1,5}(?:\.\d{1,9})?")
_STREAM = "streamGenerateContent"


def gemini_calls(
    service: Service, route: Route, handler: Handler, served: Collection[str]
) -> list[tuple[str, Endpoint, str]]:
    """The call routes. A model's name may hold slashes and colons: the method is what follows the last colon. Some
    clients leave out the version, or `models/` before a name that has a slash."""
    made = {
        method: accepting(service, route, CallEndpoint(service, route, handler, DIALECTS[name]))
        for method, name in _METHODS.items()
        if DIALECTS[name].operation in served
    }
    if not made:
        return []
    array = None
    if "generateContent" in made:
        generate = DIALECTS["gemini.generate"]
        whole = CallEndpoint(service, route, handler, generate, voice=_InArray(generate), sink=ArraySink)
        array = accepting(service, route, whole, array=True)
    answer = _Methods(made, array).answer
    paths = [f"/{version}/{{model:.+}}:{{method:[A-Za-z]+}}" for version in VERSIONS]
    return [(route.prefix + path, answer, "POST") for path in (*paths, "/models/{model:.+}:{method:[A-Za-z]+}")]


class _Methods:
    """All methods of one path."""

    def __init__(self, made: Mapping[str, Answering], array: Answering | None) -> None:
        self._made = made
        self._array = array

    async def answer(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        query = request.query
        stream = method == _STREAM
        endpoint = self._made.get("generateContent" if stream else method)
        if stream and query.get("alt") != "sse":
            endpoint = self._array
        if endpoint is None:
            raise web.HTTPNotFound
        model, patience = plain(request.match_info["model"]), _patience(request.headers)
        return await endpoint.answer(request, Placed(model, stream, _mistake(query), patience))


def _mistake(query: Mapping[str, str]) -> SidegateError | None:
    if "key" not in query:
        return None
    return BadRequest("Send the key in the header x-goog-api-key: one in a URL is logged on its way.", param="key")


def _patience(headers: Mapping[str, str]) -> TimeoutChanges | None:
    """`x-server-timeout`: after how many seconds Google's servers are to give up. Its SDK sends it where its user has
    set a timeout, and only then. What is no such number is not heeded."""
    text = headers.get("x-server-timeout")
    if text is None or _WAIT.fullmatch(text) is None or not float(text):
        return None
    return TimeoutChanges(total=float(text))


class _InArray:
    """The voice of streams without SSE: an error is the only element of an array."""

    name = "gemini.generate"

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def write_error(self, error: SidegateError, request_id: str) -> bytes:
        return b"[" + self._dialect.write_error(error, request_id) + b"]"

    def write_error_event(self, error: SidegateError, request_id: str) -> bytes:
        return self._dialect.write_error_event(error, request_id)


class ArraySink(StreamSink):
    """A stream as a JSON array: each event is an element, sent when it comes."""

    numbers = False
    _opened = False

    def _head(self, headers: Mapping[str, str] | None) -> web.StreamResponse:
        response = Streamed(headers=headers)
        response.content_type = "application/json"
        if self._request.version >= (1, 1):
            response.enable_chunked_encoding()
        return response

    async def write(self, data: bytes) -> None:
        await super().write(self._framed(data))

    def write_now(self, data: bytes) -> bool:
        opened = self._opened
        framed = self._framed(data)
        if not framed or super().write_now(framed):
            return True
        self._opened = opened
        return False

    async def end(self) -> web.StreamResponse:
        await super().write(b"]" if self._opened else b"[]")
        return await super().end()

    def _framed(self, data: bytes) -> bytes:
        elements = [said for event in sse.Splitter().feed(data) if (said := sse.data(event)) is not None]
        if not elements:
            return b""
        lead = b",\r\n" if self._opened else b"["
        self._opened = True
        return lead + b",\r\n".join(elements)
