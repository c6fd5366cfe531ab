"""Drive a plugin without a socket: a call goes through it to a handler of the test's, and what came out is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sidegate.contract.call import Asked, Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.host import Clock, Host, NoHttp, SystemClock
from sidegate.contract.meaning import BlockEnd, End, Finish, Part, Report, Request, Start, Text, Usage
from sidegate.contract.peer import Peer
from sidegate.contract.plugin import Handler, Plugin
from sidegate.contract.reply import Reply
from sidegate.counters.rates import LocalRates
from sidegate.counters.slots import LocalSlots
from sidegate.ledger.store import NullLedger
from sidegate.pipeline import chain


@dataclass
class Driven:
    """What a driven call left: the reply or the error, and every part that reached the client."""

    call: Call
    reply: Reply | None = None
    error: BaseException | None = None
    parts: list[Part] = field(default_factory=list)
    failures: list[tuple[str, Exception | SystemExit]] = field(default_factory=list)
    """What plugins were reported for."""

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if type(part) is Text)


class _Kept:
    def __init__(self) -> None:
        self.parts: list[Part] = []

    def takes_raw(self, dialect: str, whole: bool) -> bool:
        return False

    async def raw(self, data: bytes, meaningful: bool) -> None:
        raise AssertionError("bytes are never sent here")

    async def chunks(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            self.parts += chunk.parts


class KeptEvents:
    """A log that keeps what was written: pairs of event and fields."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        self.events.append((event, dict(fields)))


class _NoMetrics:
    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> _NoMetrics:
        return self

    def add(self, amount: float = 1, **labels: str) -> None:
        """Counts nothing."""


def host(clock: Clock | None = None, **given: Any) -> Host:
    """A host with everything in memory, from which nothing is reached; `given` replaces what the test looks at."""
    clock = clock or SystemClock()
    made: dict[str, Any] = {
        "clock": clock,
        "rates": LocalRates(clock),
        "slots": LocalSlots(clock),
        "log": KeptEvents(),
        "metrics": _NoMetrics(),
        "http": NoHttp(),
        "ledger": NullLedger(clock),
        "state": Path("var"),
    }
    return Host(**{**made, **given})


def says(*words: str, usage: Usage | None = None, stream: bool = True) -> Handler:
    """A handler that answers with these words: an event each, or one whole body."""

    async def handler(call: Call) -> Reply:
        told = usage or Usage(input_tokens=3, output_tokens=len(words))
        ends: tuple[Part, ...] = (BlockEnd(), Finish("stop"), Report(told), End())
        if not stream:
            body = (Start(id="r1", model="test"), Text("".join(words)), *ends)
            await call.send(Chunk(parts=body, whole=True, closing=True))
        else:
            await call.send(Chunk.of(Start(id="r1", model="test")))
            for word in words:
                await call.send(Chunk.of(Text(word)))
            for part in ends:
                await call.send(Chunk.of(part))
        return Reply(usage=told, finish="stop", model="test")

    return handler


@dataclass(frozen=True)
class _Named:
    name: str
    plugin: Plugin[Any]


async def drive(
    plugins: Plugin[Any] | Sequence[Plugin[Any]],
    handler: Handler,
    *,
    stream: bool = True,
    request: Request | None = None,
    operation: str = "chat",
    headers: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    model: str = "demo",
    peer: Peer | None = None,
) -> Driven:
    """Send one call through the plugins to `handler`. Errors are kept, not raised; a cancellation is raised."""
    clock = clock or SystemClock()
    kept = _Kept()
    asked = request or Request(model=model, stream=stream)
    call = Call(
        id="0" * 32,
        operation=operation,
        dialect="openai.chat",
        model=asked.model,
        delivery="stream" if stream else "buffered",
        outlet=kept,
        started=clock.monotonic(),
        started_at=clock.now(),
        asked=Asked(headers=headers or {}, read=lambda: asked, peer=peer),
        route="test",
    )
    driven = Driven(call, parts=kept.parts)
    listed = [plugins] if isinstance(plugins, Plugin) else list(plugins)
    named = [_Named(type(plugin).__name__.lower(), plugin) for plugin in listed]
    run = chain(named, handler, clock, lambda name, error: driven.failures.append((name, error)))
    try:
        driven.reply = await run(call)
    except Exception as error:
        driven.error = error
    return driven
