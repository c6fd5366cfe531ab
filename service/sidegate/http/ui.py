"""Paths of the AI SDK's UI hooks: `useChat` and `useCompletion`, as a stream of UI messages or as plain text."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime

from aiohttp import web

from sidegate.contract.call import Asked
from sidegate.contract.plugin import Handler
from sidegate.errors import BadRequest
from sidegate.http.accepting import Answering, accepting, streams_are_jobs
from sidegate.http.calls import CallEndpoint, Placed
from sidegate.http.server import SERVER
from sidegate.http.sinks import Streamed, StreamSink
from sidegate.outlet import BufferOutlet, StreamOutlet, named
from sidegate.service import Service
from sidegate.settings import Route
from sidegate.wire.dialect import Envelope
from sidegate.wire.registry import DIALECTS
from sidegate.wire.ui.dialect import CHAT, COMPLETION, UIMessages, UIText
from sidegate.wire.ui.history import continued

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]

MODEL = "x-sidegate-model"
"""Request header: the model, where the body names none."""

_NAME = re.compile(r"[\x20-\x7e]{1,512}")

PATHS = {"/api/chat": CHAT, "/api/completion": COMPLETION}
"""As the hooks have them where an app says nothing else."""


def ui_calls(
    service: Service, route: Route, handler: Handler, served: Collection[str]
) -> list[tuple[str, Endpoint, str]]:
    """The call routes, and the one at which a page that was loaded anew asks for what is still running."""
    if "chat" not in served:
        return []
    found: list[tuple[str, Endpoint, str]] = []
    for path, name in PATHS.items():
        endpoint = accepting(service, route, UIEndpoint(service, route, handler, DIALECTS[name]))
        found.append((route.prefix + path, _with_model(endpoint, route.default_model), "POST"))
    return [*found, (route.prefix + "/api/chat/{id}/stream", _resume(service, route), "GET")]


def _resume(service: Service, route: Route) -> Endpoint:
    if not route.resumable:
        return _nothing_to_resume
    if streams_are_jobs(service, route):
        from sidegate.http.job_stream import JobChats

        return JobChats(service, route).answer
    from sidegate.http.resumable import StreamEvents

    return StreamEvents(service, route).chat


def _with_model(endpoint: Answering, default: str) -> Endpoint:
    """An app need not name a model in the body."""

    async def answer(request: web.Request) -> web.StreamResponse:
        model, wrong = request.headers.get(MODEL) or default, None
        if model and not _NAME.fullmatch(model):
            model, wrong = "", BadRequest(f"{MODEL}: Expected the name of a model.", param=MODEL)
        return await endpoint.answer(request, Placed(model, wrong=wrong, default=True))

    return answer


class UIEndpoint(CallEndpoint):
    """One of the paths. Which protocol is spoken, the body says."""

    def _outlet(
        self, request: web.Request, call_id: str, asked: Asked, model: str, stream: bool, now: datetime
    ) -> tuple[StreamOutlet | BufferOutlet, StreamSink | None]:
        clock = self._service.clock
        envelope = Envelope(id=call_id, model=model, created=int(now.timestamp()))
        if stream and bytes(asked.fields.get("streamProtocol", b"")) == b'"text"':
            text = TextSink(request, clock, comments=False)
            return StreamOutlet(UIText(self._dialect.name), envelope, text, clock), text
        dialect = UIMessages(continued(asked.fields))
        if not stream:
            make = dialect.assembler
            return BufferOutlet(self._dialect.name, lambda naming: make(named(envelope, naming)), clock), None
        sink = UISink(request, clock, comments=True)
        return StreamOutlet(dialect, envelope, sink, clock), sink


class UISink(StreamSink):
    """A stream with the header by which proxies and other clients know it."""

    def _head(self, headers: Mapping[str, str] | None) -> web.StreamResponse:
        response = super()._head(headers)
        response.headers["x-vercel-ai-ui-message-stream"] = "v1"
        return response


class TextSink(StreamSink):
    """A stream of nothing but text. It has no word for a failure: the body then stays without its end."""

    numbers = False

    def _head(self, headers: Mapping[str, str] | None) -> web.StreamResponse:
        response = Streamed(headers=headers)
        response.content_type = "text/plain"
        response.charset = "utf-8"
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Accel-Buffering"] = "no"
        if self._request.version >= (1, 1):
            response.enable_chunked_encoding()
        return response

    async def fail(self, event: bytes) -> web.StreamResponse:
        await self.write(b"")
        response = await self._begun()
        self.leave()
        if self._request.transport is not None:
            # What was said still arrives; the length that was promised does not.
            self._request.transport.close()
        return response


async def _nothing_to_resume(request: web.Request) -> web.Response:
    """No reply outlives its connection here, so there is nothing to go on with: clients take 204 for that."""
    return web.Response(status=204, headers={"Server": SERVER})
