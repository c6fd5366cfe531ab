"""A host that lends nothing: for making plugins only to see whether their settings are right."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from sidegate.contract.counters import Grant, RateClaim, SlotClaim
from sidegate.contract.host import Counter, Host, Model, NoHttp, SystemClock
from sidegate.settings import Choice, Settings, Target, as_choice


def null_host(settings: Settings) -> Host:
    """A host with the models and the state folder of `settings`; limits always have room, log and metrics are deaf,
    nothing can be reached."""
    return Host(
        clock=SystemClock(),
        rates=_Rates(),
        slots=_Slots(),
        log=_Log(),
        metrics=_Metrics(),
        http=NoHttp(),
        models=tuple(Model(name, _pairs(name, targets)) for name, targets in settings.models.items()),
        state=Path(settings.state),
        workers=settings.workers,
        shared=bool(settings.counters.url),
    )


def _pairs(name: str, leads: Choice | tuple[Target, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((target.provider, target.model or name) for target in as_choice(leads).leads_to)


class _Rates:
    async def take(self, claims: Sequence[RateClaim]) -> tuple[Grant, ...]:
        return tuple(Grant(True, claim.limit, claim.limit, 0.0, 0.0) for claim in claims)

    def correct(self, claim: RateClaim, used: int) -> None:
        pass


class _Slots:
    def hold(self, claims: Sequence[SlotClaim]) -> AbstractAsyncContextManager[None]:
        return _nothing()


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


class _Log:
    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        pass


class _Counter:
    def add(self, amount: float = 1, **labels: str) -> None:
        pass


class _Metrics:
    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        return _Counter()
