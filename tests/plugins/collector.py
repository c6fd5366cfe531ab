"""A collector of traces: a real server that takes OTLP over HTTP and keeps the spans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Span:
    """One span, in plain values."""

    def __init__(self, span: Any, resource: dict[str, Any]) -> None:
        self.name: str = span.name
        self.kind: int = span.kind
        self.trace: str = span.trace_id.hex()
        self.id: str = span.span_id.hex()
        self.parent: str = span.parent_span_id.hex()
        self.state: str = span.trace_state
        self.error: bool = span.status.code == 2
        self.seconds: float = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
        self.attributes = _values(span.attributes)
        self.resource = resource

    @property
    def served(self) -> bool:
        """Of a call; the others are of attempts."""
        return self.kind == 2


class Collector:
    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.headers: list[dict[str, str]] = []
        self.bytes = b""
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bytes += body
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(group.resource.attributes)
            self.spans += [Span(span, resource) for scope in group.scope_spans for span in scope.spans]
        return web.Response()

    async def of_calls(self, count: int = 1) -> list[Span]:
        """The spans of so many calls, once they have come: they are sent every second."""
        async with asyncio.timeout(20):
            while sum(span.served for span in self.spans) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return [span for span in self.spans if span.served]

    @property
    def attempts(self) -> list[Span]:
        found = [span for span in self.spans if not span.served]
        return sorted(found, key=lambda span: int(span.attributes["sidegate.attempt"]))


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    kept = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", kept.take)
    async with TestServer(app) as server:
        kept.url = str(server.make_url("/v1/traces"))
        yield kept


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)
