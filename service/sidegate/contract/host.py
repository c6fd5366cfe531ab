"""Host: what the service lends a plugin. Ask for nothing else: no globals, no environment, no sessions of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Any, Protocol

from sidegate.contract.prices import NoPrices, Prices
from sidegate.contract.reservations import NoReservations, Reservations
from sidegate.errors import ConnectError


class Clock(Protocol):
    """Time, so that tests can set it. `monotonic` for durations and limits, `now` (UTC) for records."""

    def monotonic(self) -> float: ...
    def now(self) -> datetime: ...


class SystemClock:
    """The machine's own."""

    def monotonic(self) -> float:
        return monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a limit answered: whether there was room, how much is left, and when there is more."""

    allowed: bool
    limit: int
    remaining: int
    reset: float
    """Seconds until the limit is whole again."""
    retry_after: float
    """Seconds until the same request would be let through; 0 where it was."""


class Rates(Protocol):
    """Counts per key and period. In this process by default; the same calls reach a shared store where one is set."""

    def take(self, key: str, limit: int, period: float, amount: int = 1) -> Grant:
        """Take `amount` of `limit` per `period` seconds if there is room; else take nothing. Never waits."""
        ...

    def peek(self, key: str, limit: int, period: float) -> Grant:
        """What `take` would find, without taking."""
        ...


class Slots(Protocol):
    """Concurrent holders per key, with a fair queue."""

    def hold(self, key: str, limit: int, *, queue: int, wait: float) -> AbstractAsyncContextManager[None]:
        """Hold one of `limit` slots. At most `queue` wait, each for `wait` seconds, first come first served.

        Raises `Refusal` 429, code `concurrency_limit_exceeded`, where there is no place or the wait was in vain.
        """
        ...


class Log(Protocol):
    """Structured log: one JSON object a line."""

    def write(self, event: str, fields: Mapping[str, Any]) -> None: ...


class Counter(Protocol):
    def add(self, amount: float = 1, **labels: str) -> None: ...


class Metrics(Protocol):
    """Metrics of a plugin's own, beside the gateway's. Labels must be few and bounded: never a key, never a user."""

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter: ...


NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Http(Protocol):
    """Calls to services other than providers: a guard's checker, an issuer's keys. Each stands for itself.

    Certificates are verified, redirects are not followed, cookies are not kept, and proxies of the environment are not
    used. Both give the body of an answer whose status is 2xx. All else raises `ProviderError`: `ConnectError` where
    nothing was reached, `PhaseTimeout` after `timeout` seconds in all, `ReplyError` for another status (in
    `provider_status`) or more than `max_bytes`, `CutError` for an answer that stopped. What they say is written for
    nobody's client: translate it. Waiting counts as the plugin's own time, but inside `call.waiting()`.
    """

    async def get(
        self, url: str, headers: Mapping[str, str] = NO_HEADERS, *, timeout: float, max_bytes: int
    ) -> bytes: ...

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS, *, timeout: float, max_bytes: int
    ) -> bytes:
        """Say in `headers` what the body is; it is sent as it stands, and may be sent again on a new connection where
        a kept one was closed before a byte of an answer came."""
        ...


class NoHttp:
    """Reaches nothing: where only settings are looked at, and in tests that give no other."""

    async def get(self, url: str, headers: Mapping[str, str] = NO_HEADERS, *, timeout: float, max_bytes: int) -> bytes:
        raise ConnectError("Nothing can be reached from here.")

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS, *, timeout: float, max_bytes: int
    ) -> bytes:
        raise ConnectError("Nothing can be reached from here.")


@dataclass(frozen=True, slots=True)
class Model:
    """A model name of the config and where it leads: pairs of provider and the provider's own model name."""

    name: str
    targets: tuple[tuple[str, str], ...]


def _silent(text: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Lent to every plugin of a running gateway."""

    clock: Clock
    rates: Rates
    slots: Slots
    log: Log
    metrics: Metrics
    http: Http = NoHttp()
    models: tuple[Model, ...] = ()
    state: Path = Path("var")
    """The directory that outlives a restart: the plugin may keep files in a folder of its own there."""
    workers: int = 1
    shared: bool = False
    """Whether `rates` and `slots` are shared by all replicas."""
    prices: Prices = NoPrices()
    """What models cost by the price lists the gateway knows: `prices.find(provider, model)`."""
    ledger: Reservations = NoReservations()
    """Where money is held before it is spent: `await ledger.reserve(call, claims)`."""
    enforced: frozenset[str] = frozenset()
    """What the plugins further in enforce of a caller's `Allowance`: see `Plugin.enforces`."""
    tell: Callable[[str], None] = _silent
    """Say something to whoever starts the gateway: a line on the terminal, not in the log. For `start`."""
