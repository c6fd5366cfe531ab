"""Micro-benchmarks: `python -m bench.micro`. What the gateway's own code costs, without sockets.

Microseconds of this process's CPU, the best of several goes: read them as ratios, too. The events are those of the
mock provider, one to a piece, as they come while a model speaks.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from bench.loop import loop_factory
from bench.traffic import Asked, Shape, request_body, stream_events
from sidegate.contract import Attempt, Call, Chunk, Ending, Handler, Plugin, Reply, SystemClock
from sidegate.contract.call import Asked as CallAsked
from sidegate.gate import Gate
from sidegate.outlet import NullSink, StreamOutlet
from sidegate.pipeline import chain
from sidegate.pump import Pump, Take
from sidegate.testing import host
from sidegate.wire.body import read_fields
from sidegate.wire.dialect import Envelope
from sidegate.wire.registry import DIALECTS
from sidegate.wire.sse import Splitter

TOKENS = 2000
CALLS = 500
GOES = 7

_CHAT = DIALECTS["openai.chat"]
_EVENTS = stream_events(Asked(Shape(TOKENS), stream=True, usage=True))
_BODY = request_body(Shape(TOKENS), stream=True)
_CLOCK = SystemClock()


class Passes(Plugin[None]):
    """Looks at no chunk."""


class Looks(Plugin[None]):
    """One tap, which reads the text."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        seen = 0

        def see(chunk: Chunk) -> None:
            nonlocal seen
            seen += len(chunk.text)

        call.tap(see)
        return await handler(call)


class Edits(Plugin[None]):
    """One edit, which changes every text."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        call.change(_Louder())
        return await handler(call)


class _Louder:
    def see(self, chunk: Chunk) -> Sequence[Chunk]:
        return (chunk.with_text(str.upper),)

    def end(self, ending: Ending) -> Sequence[Chunk]:
        return ()


@dataclass(frozen=True)
class _Named:
    name: str
    plugin: Plugin[Any]


class _Pieces:
    """The events where the socket is, one to a piece."""

    def __init__(self) -> None:
        self._left = iter([*_EVENTS, b""])

    async def piece(self) -> bytes:
        return next(self._left)

    async def drive(self, take: Take) -> None:
        for piece in self._left:
            rest = take(piece) if piece else None
            if rest is not None and not await rest:
                return


def make_call() -> Call:
    """A call as the HTTP side makes it, read by nobody."""
    envelope = Envelope(id="0" * 32, model="bench", created=0)
    outlet = StreamOutlet(_CHAT, envelope, NullSink(), _CLOCK)
    call = Call(
        id="0" * 32,
        operation="chat",
        dialect=_CHAT.name,
        model="bench",
        delivery="stream",
        outlet=outlet,
        started=_CLOCK.monotonic(),
        started_at=datetime.now(UTC),
        asked=CallAsked(body=_BODY, fields=read_fields(_BODY)),
    )
    outlet.notes = call.notes
    return call


async def relay(call: Call) -> Reply:
    """The heart of a pipeline, with the events where the socket is."""
    attempt = Attempt(
        number=1,
        provider="mock",
        target="bench",
        system="openai",
        started=_CLOCK.monotonic(),
        started_at=datetime.now(UTC),
    )
    call.attempts.append(attempt)
    child = call.child(attempt, Gate(call, attempt))
    await Pump(child, attempt, _CHAT, _CLOCK, hide_usage=False).stream(_Pieces())
    return Reply(usage=attempt.usage)


async def nothing(call: Call) -> Reply:
    """The heart of a pipeline that answers nothing."""
    return Reply()


def pipeline(*plugins: type[Plugin[Any]], core: Handler = relay) -> Handler:
    lent = host()
    named = [_Named(f"{number}", plugin(None, lent)) for number, plugin in enumerate(plugins)]
    return chain(named, core, _CLOCK, lambda name, error: sys.exit(f"a plugin failed: {error!r}"))


async def _through(handler: Handler, calls: int) -> None:
    for _ in range(calls):
        await handler(make_call())


async def _metered() -> None:
    splitter, meter = Splitter(), _CHAT.meter()
    for piece in _EVENTS:
        for event in splitter.feed(piece):
            meter.event(event)


async def _made() -> None:
    for _ in range(CALLS):
        make_call()


Work = Callable[[], Awaitable[None]]


async def cost(work: Work, count: int) -> float:
    """Microseconds for each of `count`: the best go, since the others were disturbed."""
    best = float("inf")
    for _ in range(GOES):
        begun = time.process_time()
        await work()
        best = min(best, time.process_time() - begun)
    return best / count * 1e6


async def measure() -> list[tuple[str, float]]:
    """Each line of the table: what, and microseconds."""
    six = [Passes] * 6
    per_event: list[tuple[str, Handler]] = [
        ("pump, no plugin, per event", pipeline()),
        ("pump, 6 plugins that do not look, per event", pipeline(*six)),
        ("pump, one tap that reads the text, per event", pipeline(Looks)),
        ("pump, one edit that changes the text, per event", pipeline(Edits)),
    ]
    lines = [("splitter and meter, per event", await cost(_metered, len(_EVENTS)))]
    for label, handler in per_event:
        lines.append((label, await cost(partial(_through, handler, 1), len(_EVENTS))))
    bare = await cost(_made, CALLS)
    lines.append(("a call made, per call", bare))
    for count in (0, 1, 6):
        handler = pipeline(*six[:count], core=nothing)
        spent = await cost(partial(_through, handler, CALLS), CALLS)
        lines.append((f"pipeline of {count} plugins alone, per call", spent - bare))
    return lines


def main() -> int:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        lines = runner.run(measure())
    for label, micros in lines:
        print(f"{label:52}{micros:8.2f} us")
    return 0


if __name__ == "__main__":
    sys.exit(main())
