"""A trace of each call for OpenTelemetry: a span of it, one of each attempt, in the words of the GenAI conventions.

It goes on with the trace of the client (W3C `traceparent`) and hands it on to the provider. Spans are built when the
call is over and sent in batches by a thread, so nobody waits for a collector, and a collector that is away costs spans
and no call. What was said is not recorded unless you ask for it. Put it first, before `log`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from sidegate.contract import Call, Handler, Host, Observer, Reply
from sidegate_plugins._trace_context import Context, Contexts, parent_of

if TYPE_CHECKING:
    from sidegate_plugins._trace_messages import Said
    from sidegate_plugins._trace_spans import Spans

_NOT_TRACED = frozenset({"calls", "usage", "cancel", "models", "jobs", "streams", "chat_socket"})


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    endpoint: Annotated[
        str,
        Meta(
            pattern=r"^(https?://[^\s@]+)?$",
            description="Where spans go by OTLP over HTTP, path and all. Empty: as `OTEL_EXPORTER_OTLP_*` say.",
        ),
    ] = ""
    headers: Annotated[Mapping[str, str], Meta(description="Sent to the collector, such as its key.")] = field(
        default_factory=dict
    )
    service_name: Annotated[str, Meta(min_length=1, max_length=256, description="`service.name` of the spans.")] = (
        "sidegate"
    )
    resource: Annotated[Mapping[str, str], Meta(description="More attributes of the resource.")] = field(
        default_factory=dict
    )
    sample: Annotated[
        float, Meta(ge=0, le=1, description="Share of the traces that begin here and are kept; others go by their own.")
    ] = 1.0
    propagate: Annotated[bool, Meta(description="Send `traceparent` and `tracestate` on to providers.")] = True
    record: Annotated[
        Literal["calls", "parameters", "messages"],
        Meta(description="What of a request is recorded: nothing but its model; its parameters; all that was said."),
    ] = "calls"
    max_message_bytes: Annotated[
        int,
        Meta(ge=256, le=2**20, description="With `record: messages`: characters kept of request and reply."),
    ] = 16_384
    max_waiting: Annotated[int, Meta(ge=128, le=2**20, description="Spans that may wait for the collector.")] = 4096


class Trace(Observer[Settings]):
    """Notes when things began and ended; what it makes of them is made after."""

    deliveries: ClassVar[frozenset[str]] = frozenset({"buffered", "stream", "job", "socket"})

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        self._contexts = Contexts(settings.sample)
        self._spans: Spans | None = None

    async def start(self) -> None:
        # A quarter of a second and 20 MiB, so only where a config has it.
        try:
            from sidegate_plugins._trace_spans import Spans
        except ImportError as error:
            raise ValueError(f"{error.name} is not installed: pip install 'sidegate[otel]'") from error
        self._spans = Spans(self.settings)

    async def stop(self) -> None:
        """What waits is sent, or given up after a few seconds."""
        spans, self._spans = self._spans, None
        if spans is not None:
            await asyncio.to_thread(spans.close)

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.operation in _NOT_TRACED or self._spans is None:
            return await handler(call)
        parent = parent_of(call.headers)
        context = self._contexts.begin(parent)
        call.notes.trace_id = f"{context.trace:032x}"
        traced = _Traced(self._spans, context, 0 if parent is None else parent.span, self._contexts)
        if self.settings.propagate:
            call.notes.openings.append(traced.opened)
        said = self._listen(call) if context.sampled and self.settings.record == "messages" else None
        try:
            reply = await handler(call)
        except BaseException as error:
            traced.over(call, call.reply_for(error), self.host.clock.monotonic(), said)
            raise
        traced.over(call, reply, self.host.clock.monotonic(), said)
        return reply

    def _listen(self, call: Call) -> Said:
        from sidegate_plugins._trace_messages import Said

        said = Said(self.settings.max_message_bytes)
        call.tap(said.see)
        return said


class _Traced:
    """One call of a trace."""

    __slots__ = ("_context", "_contexts", "_parent", "_spans", "_tries")

    def __init__(self, spans: Spans, context: Context, parent: int, contexts: Contexts) -> None:
        self._spans = spans
        self._context = context
        self._parent = parent
        self._contexts = contexts
        self._tries: dict[int, int] = {}

    async def opened(self, attempt: Call) -> None:
        """An attempt has a span of its own, whose number its provider has to know before it is asked."""
        if attempt.attempt is None:
            return
        context = self._context._replace(span=self._contexts.span())
        self._tries[attempt.attempt.number] = context.span
        attempt.attempt.request_headers = {**(attempt.attempt.request_headers or {}), **context.headers}

    def over(self, call: Call, reply: Reply, now: float, said: Said | None) -> None:
        if self._context.sampled:
            self._spans.add(call, reply, now, self._context, self._parent, self._tries, said)
