"""Spans of calls that are over, and their way to a collector. Imported only where a config traces.

Names and attributes are those of OpenTelemetry's GenAI semantic conventions as of version 1.44 (status: development),
and `sidegate.*` for what these have no name for.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.span import TraceState
from opentelemetry.trace.status import Status, StatusCode

from sidegate.contract import Attempt, Call, Reply, Usage, billed
from sidegate.errors import SidegateError
from sidegate_plugins._trace_messages import Said, asked_for

if TYPE_CHECKING:
    from sidegate_plugins._trace_context import Context
    from sidegate_plugins.trace import Settings

Value = str | int | float | bool | list[str] | None
Attributes = dict[str, Value]

_FLAGS: Final = TraceFlags(TraceFlags.SAMPLED)
_SCOPE: Final = InstrumentationScope("sidegate")
_FINE: Final = Status(StatusCode.UNSET)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OWN_FAULT: Final = 500
"""A refusal is no fault of the server: a span of kind SERVER is an error from here on."""


class Spans:
    """Builds spans and sends them: in batches of at most 128, at least every second, by a thread of the exporter's."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        exporter = OTLPSpanExporter(endpoint=settings.endpoint or None, headers=dict(settings.headers) or None)
        # A batch is encoded while the loop waits for the interpreter: 128 spans are a few milliseconds.
        self._processor = BatchSpanProcessor(
            exporter,
            max_queue_size=settings.max_waiting,
            schedule_delay_millis=1000,
            max_export_batch_size=128,
        )
        self._resource = Resource.create({"service.name": settings.service_name, **settings.resource})

    def close(self) -> None:
        """Send what waits, and end the thread. Blocks: not for the loop."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    def add(
        self,
        call: Call,
        reply: Reply,
        now: float,
        context: Context,
        parent: int,
        tries: Mapping[int, int],
        said: Said | None,
    ) -> None:
        """The span of a call, within the client's span `parent`, and one for each attempt, by the numbers `tries`."""
        began = _nanoseconds(call.started_at)
        self._emit(
            f"{call.operation} {_label(call)}",
            SpanKind.SERVER,
            context,
            parent,
            (began, began + _duration(now - call.started)),
            _of_call(call, reply),
            Status(StatusCode.ERROR, _code(reply)) if reply.status >= _OWN_FAULT else _FINE,
        )
        for attempt in call.attempts:
            self._attempt(call, attempt, reply, now, context, tries, said)

    def _attempt(
        self,
        call: Call,
        attempt: Attempt,
        reply: Reply,
        now: float,
        context: Context,
        tries: Mapping[int, int],
        said: Said | None,
    ) -> None:
        began = _nanoseconds(attempt.started_at)
        ended = now if attempt.ended is None else attempt.ended
        attributes = _of_attempt(call, attempt, reply)
        if self._settings.record != "calls":
            attributes |= asked_for(call, self._settings.record == "messages", self._settings.max_message_bytes)
        if said is not None and attempt.committed:
            attributes["gen_ai.output.messages"] = said.messages(attempt.finish)
        # Its provider was told the number, where one was: a number nobody was told is made from the call's.
        own = tries.get(attempt.number) or (context.span + attempt.number) % 2**64 or 1
        error = attributes.get("error.type")
        self._emit(
            f"{call.operation} {attempt.target}",
            SpanKind.CLIENT,
            context._replace(span=own),
            context.span,
            (began, began + _duration(ended - attempt.started)),
            attributes,
            Status(StatusCode.ERROR, str(error)) if error else _FINE,
        )

    def _emit(
        self,
        name: str,
        kind: SpanKind,
        context: Context,
        parent: int,
        times: tuple[int, int],
        attributes: Attributes,
        status: Status,
    ) -> None:
        span = ReadableSpan(
            name,
            context=_context(context.trace, context.span, context.state),
            parent=_context(context.trace, parent, "", remote=kind is SpanKind.SERVER) if parent else None,
            resource=self._resource,
            attributes={key: value for key, value in attributes.items() if value is not None},
            kind=kind,
            status=status,
            start_time=times[0],
            end_time=max(times),
            instrumentation_scope=_SCOPE,
        )
        self._processor.on_end(span)


def _of_call(call: Call, reply: Reply) -> Attributes:
    bills = [billed(call, attempt) for attempt in call.attempts]
    costs = [cost for _, cost in bills]
    known = [cost for cost in costs if cost is not None]
    first = call.notes.first_token
    return {
        "gen_ai.operation.name": call.operation,
        "gen_ai.request.model": call.model,
        "gen_ai.response.model": reply.model,
        "http.response.status_code": reply.status,
        "error.type": None if reply.complete else _code(reply),
        "sidegate.call.id": call.id,
        "sidegate.route": call.route,
        "sidegate.dialect": call.dialect,
        "sidegate.delivery": call.delivery,
        "sidegate.ending": reply.ending.value,
        "sidegate.caller": call.caller.name,
        "sidegate.team": call.caller.team,
        "sidegate.plugin": reply.error.plugin if reply.error is not None else None,
        "sidegate.attempts": len(call.attempts),
        "sidegate.cost_nano_usd": sum(known) if len(known) == len(costs) else None,
        "gen_ai.response.time_to_first_chunk": None if first is None else round(first - call.started, 6),
    }


def _of_attempt(call: Call, attempt: Attempt, reply: Reply) -> Attributes:
    usage, cost = billed(call, attempt)
    ending = attempt.ending or reply.ending
    first = attempt.first_token
    return {
        "gen_ai.operation.name": call.operation,
        "gen_ai.provider.name": attempt.system or attempt.provider,
        "gen_ai.request.model": attempt.target,
        "gen_ai.request.stream": call.streams,
        "gen_ai.response.id": attempt.provider_id,
        "gen_ai.response.model": attempt.model,
        "gen_ai.response.finish_reasons": [attempt.finish] if attempt.finish else None,
        "gen_ai.response.time_to_first_chunk": None if first is None else round(first - attempt.started, 6),
        **_tokens(usage),
        "http.response.status_code": attempt.status,
        "error.type": attempt.error or (None if ending.value == "complete" else ending.value),
        "sidegate.provider": attempt.provider,
        "sidegate.attempt": attempt.number,
        "sidegate.ending": ending.value,
        "sidegate.cost_nano_usd": cost,
        "sidegate.provider_request_id": attempt.tags.get("request_id"),
    }


def _tokens(usage: Usage) -> Attributes:
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        "sidegate.usage_estimated": usage.estimated or None,
    }


def _label(call: Call) -> str:
    """The model that was asked for: names of spans are few, so one that nothing served is not among them."""
    return call.model if call.attempts else "unknown"


def _code(reply: Reply) -> str:
    error: SidegateError | None = reply.error
    return (error.code if error is not None else None) or reply.ending.value


def _context(trace: int, span: int, state: str, *, remote: bool = False) -> SpanContext:
    return SpanContext(trace, span, remote, _FLAGS, TraceState.from_header([state]) if state else None)


def _nanoseconds(moment: datetime) -> int:
    """Unix nanoseconds, in whole microseconds: a float of that size would lose them."""
    since = moment - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def _duration(seconds: float) -> int:
    return max(0, int(seconds * 1e9))
