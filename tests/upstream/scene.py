"""A router with everything in the test's hands: providers that answer as told, the clock, chance, and sleep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from sidegate.config import read_mapping
from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.meaning import Text
from sidegate.contract.reply import Reply
from sidegate.errors import ConnectError, ProviderError
from sidegate.upstream.catalogue import make_circuits, make_upstreams
from sidegate.upstream.choice import Catalogue
from sidegate.upstream.router import Router
from sidegate.upstream.transport import Transport
from sidegate.wire.faults import provider_error


class HandClock:
    """Time that passes only when the test, or a sleep, lets it."""

    def __init__(self, at: float = 1000.0) -> None:
        self.at = at
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.at

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.at)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.at += seconds


class Longest(Random):
    """Chance that always draws the longest pause; weights are drawn by the seed."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Client:
    """Where chunks go: what the client read."""

    def __init__(self) -> None:
        self.parts: list[Any] = []

    def takes_raw(self, dialect: str, whole: bool) -> bool:
        return False

    async def raw(self, data: bytes, meaningful: bool) -> None:
        raise AssertionError("no bytes are sent here")

    async def chunks(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            self.parts += chunk.parts


Act = Callable[[Call], Any]
"""What a provider does with an attempt: gives an exception to raise, an awaitable to wait for, or nothing."""


def fails(status: int, **headers: str) -> ProviderError:
    """As a provider's reply with that status is read."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    code = named.pop("code", None)
    return provider_error(status, named, message="no", code=code)


def unreachable() -> ConnectError:
    return ConnectError("The provider cannot be reached.")


class Scene:
    """`play(...)` sends a call for the model `m` and says which targets were asked, in order."""

    def __init__(
        self, targets: Any, *, providers: Mapping[str, Mapping[str, Any]] | None = None, names: str = "m"
    ) -> None:
        self.clock = HandClock()
        self.random = Longest(1)
        self.asked: list[str] = []
        self.changes: list[tuple[str, str, int]] = []
        self.scripts: dict[str, list[Any]] = {}
        self.client = Client()
        self.call: Call | None = None
        named = providers or {"a": {}, "b": {}, "c": {}}
        config = {
            "providers": {
                name: {"dialect": "openai", "api_key": "k", "base_url": "http://127.0.0.1:9", **each}
                for name, each in named.items()
            },
            "models": {names: targets},
            "pipelines": {"main": {}},
        }
        settings = read_mapping(config, {}, Path("/tmp")).settings
        catalogue = Catalogue(settings.models)
        self.upstreams = make_upstreams(settings.providers, Transport(), self.clock, lambda name, why: None)
        self.circuits = make_circuits(settings.providers, catalogue, self.clock, self._watch)
        self.router = Router(
            catalogue,
            self.upstreams,
            self.circuits,
            self._answer,
            self.clock,
            random=self.random,
            sleep=self.clock.sleep,
        )

    def _watch(self, provider: str, model: str) -> Callable[[int], None]:
        return lambda by: self.changes.append((provider, model, by))

    async def _answer(self, call: Call) -> Reply:
        attempt = call.attempt
        assert attempt is not None
        self.asked.append(f"{attempt.provider}/{attempt.target}")
        attempt.sent = True
        script = self.scripts.get(attempt.provider)
        act = script.pop(0) if script else None
        if callable(act):
            act = await act(call)
        if isinstance(act, BaseException):
            raise act
        attempt.first_token = self.clock.at
        await call.send(Chunk.of(Text(attempt.provider)))
        return Reply()

    def new_call(self, model: str = "m", delivery: str = "stream") -> Call:
        self.call = Call(
            id="0" * 32,
            operation="chat",
            dialect="openai.chat",
            model=model,
            delivery=delivery,
            outlet=self.client,
            started=self.clock.at,
            started_at=self.clock.now(),
        )
        return self.call

    async def play(self, model: str = "m", **scripts: list[Any]) -> list[str]:
        """One call that is answered; what each provider does, in order, is in `scripts`, and then it answers well."""
        before = len(self.asked)
        self.scripts = scripts
        await self.router(self.new_call(model))
        return self.asked[before:]

    async def fail(self, model: str = "m", **scripts: list[Any]) -> ProviderError:
        """One call that fails, and how. `self.asked` says who was asked."""
        self.asked.clear()
        self.scripts = scripts
        try:
            await self.router(self.new_call(model))
        except ProviderError as error:
            return error
        raise AssertionError(f"answered, after {self.asked}")
