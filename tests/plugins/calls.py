"""Calls and a host for tests of one plugin: a clock that is set by hand, and an outlet that keeps what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sidegate.contract import Call, Caller, Chunk, End, Handler, Host, Model, Plugin, Reply, Request, Text
from sidegate.contract.call import Asked
from sidegate.counters.rates import LocalRates
from sidegate.counters.slots import LocalSlots
from sidegate.errors import Refusal
from sidegate.testing import drive, says

EPOCH = datetime(2026, 11, 22, 12, tzinfo=UTC)


class HandClock:
    """Stands still until `pass_by`."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.seconds - 1000.0)

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds


class ListLog:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        self.lines.append((event, dict(fields)))


class NoCounter:
    def add(self, amount: float = 1, **labels: str) -> None: ...


class NoMetrics:
    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> NoCounter:
        return NoCounter()


class ListOutlet:
    """The client's edge: keeps the chunks."""

    def __init__(self) -> None:
        self.sent: list[Chunk] = []

    async def chunks(self, chunks: list[Chunk]) -> None:
        self.sent += chunks

    async def raw(self, data: bytes, meaningful: bool) -> None:
        raise AssertionError("nothing is sent raw here")

    def takes_raw(self, dialect: str, whole: bool) -> bool:
        return False


def a_host(clock: HandClock, *models: str, log: ListLog | None = None, state: Path = Path("var")) -> Host:
    return Host(
        clock=clock,
        rates=LocalRates(clock),
        slots=LocalSlots(clock),
        log=log or ListLog(),
        metrics=NoMetrics(),
        models=tuple(Model(name, ()) for name in models),
        state=state,
    )


def a_call(
    clock: HandClock,
    *,
    operation: str = "chat",
    model: str = "gpt",
    delivery: str = "stream",
    caller: str | Caller = "ann",
    end_user: str | None = None,
    headers: Mapping[str, str] | None = None,
    request: Request | None = None,
    route: str = "main",
) -> Call:
    call = Call(
        id="0123",
        operation=operation,
        dialect="openai.chat",
        model=model,
        delivery=delivery,
        outlet=ListOutlet(),
        started=clock.monotonic(),
        started_at=clock.now(),
        asked=Asked(headers=headers or {}, read=None if request is None else lambda: request),
        route=route,
    )
    call.caller = Caller(caller) if isinstance(caller, str) else caller
    call.end_user = end_user
    return call


async def answer(call: Call) -> Reply:
    """A handler that says two words."""
    await call.send(Chunk.of(Text("hello ")))
    await call.send(Chunk.of(Text("world"), End()))
    return Reply()


def failing(error: BaseException) -> Handler:
    """A handler that says a word and then raises."""

    async def fail(call: Call) -> Reply:
        await call.send(Chunk.of(Text("hello ")))
        raise error

    return fail


async def passes_reply_and_error(plugin: Plugin[Any], *, stream: bool, **request: Any) -> Caller:
    """Whom a plugin that names callers names, once it has let a reply pass as it is, and an error, too."""
    driven = await drive(plugin, says("Hel", "lo", stream=stream), stream=stream, **request)
    assert (driven.text, driven.error) == ("Hello", None)

    async def refuses(call: Call) -> Reply:
        raise Refusal(418, "teapot", "No.")

    refused = await drive(plugin, refuses, stream=stream, **request)
    assert isinstance(refused.error, Refusal)
    assert (refused.error.code, refused.failures) == ("teapot", [])
    return driven.call.caller
