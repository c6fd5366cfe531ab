"""Host: what the service lends a plugin. Ask for nothing else: no globals, no environment, no sessions of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Any, Protocol

from sidegate.contract.counters import RateCounters, SlotCounters
from sidegate.contract.keys import Keys, NoKeys
from sidegate.contract.prices import NoPrices, Prices
from sidegate.contract.reservations import NoReservations, Reservations
from sidegate.contract.values import NoValues, Values
from sidegate.errors import ConnectError


class Clock(Protocol):
    """Time, so that tests can set it. `monotonic` for durations and limits, `now` (UTC) for records."""

    def monotonic(self) -> float: ...
    def now(self) -> datetime: ...


class SystemClock:
    """The machine's own."""

    # Asked some forty times a call: a frame of Python's round it would cost as much again.
    monotonic = staticmethod(monotonic)

    def now(self) -> datetime:
        return datetime.now(UTC)


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
    rates: RateCounters
    slots: SlotCounters
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
    keys: Keys = NoKeys()
    """The keys that were issued: `await keys.find(digest)`."""
    values: Values = NoValues()
    """Bytes that replicas share for a while: `await values.get(key)`, `values.put(key, value, seconds)`."""
    enforced: frozenset[str] = frozenset()
    """What the plugins further in enforce of a caller's `Allowance`: see `Plugin.enforces`."""
    per_attempt: bool = False
    """The plugin stands in an `attempt` list: it is called once an attempt, whose provider is known."""
    tell: Callable[[str], None] = _silent
    """Say something to whoever starts the gateway: a line on the terminal, not in the log. For `start`."""
