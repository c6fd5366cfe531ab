"""Plugin: one step of the pipeline. Subclass it, write `Settings` beside it, name it in the config.

    class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        limit: Annotated[int, Meta(ge=1, description="Calls at a time.")] = 8

    class Slots(Plugin[Settings]):
        async def __call__(self, call: Call, handler: Handler) -> Reply:
            async with self.slot(call.caller):
                return await handler(call)

The await is the exchange: when `await handler(call)` returns, the reply is over, streamed or buffered. So `async with`,
`try/finally` and `asyncio.timeout` are right, and there is no hook for the end. A plugin that never awaits `handler`
answers itself with `call.send`, or raises `Refusal`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Generic, Literal, Self, TypeAlias, TypeVar, get_args

from msgspec import Struct

from sidegate.contract.allowance import Enforced
from sidegate.contract.call import Call
from sidegate.contract.caller import Caller
from sidegate.contract.host import Host
from sidegate.contract.reply import Reply
from sidegate.contract.reservations import BudgetLimit

Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]
"""What stands further in: the next plugin, or what reaches the provider."""

S = TypeVar("S", bound=Struct | None)

CONTRACT = 1
"""The version of the contract. A plugin that needs a later one says so in `contract`, and the start refuses it."""


class Plugin(Generic[S]):
    """A guard: when it fails, the call fails. Life: made, `start`, any number of calls, `stop`.

    The constructor does no I/O and may not be async; raise `ValueError` there, or in `start`, where the settings cannot
    work, and the start says so with the place in the config. One instance serves all calls of a pipeline, so state of
    one call belongs in local variables of `__call__`.
    """

    fails_open: ClassVar[bool] = False
    contract: ClassVar[int] = CONTRACT
    deliveries: ClassVar[frozenset[str]] = frozenset({"buffered", "stream", "job"})
    """The deliveries it holds on; a route with another is refused at start."""
    names_callers: ClassVar[bool] = False
    """It says who calls, by what the request brings. Where a job runs, its caller is known and no key is at hand: such
    a plugin has named it when the job was accepted, and is left out."""
    reruns: ClassVar[bool] = False
    """It may await `handler` several times. What must see all of a call's runs as one, such as `cost`, stands outside
    it, and an `attempt` list has no place for it: the start says so."""
    replays: ClassVar[Literal["", "retries", "others"]] = ""
    """It may answer a call with what was told before, and never await `handler`: `retries` of the same call, or what
    `others` were told. What decides who may have an answer (who names callers, who enforces models) stands outside it,
    and for `others` what accounts for calls: the start says so."""
    accounts: ClassVar[bool] = False
    """It accounts for whole calls, such as `cost`: it stands once in a pipeline, in `plugins`, outside whatever
    `reruns`, or `replays` what others were told."""
    enforces: ClassVar[frozenset[Enforced]] = frozenset()
    """What it holds calls to of their caller's `Allowance`. A plugin further out knows by it (`host.enforced`) whether
    all that a key restricts is held; one in an `attempt` list does not count."""

    def __init__(self, settings: S, host: Host) -> None:
        self.settings = settings
        self.host = host

    def inherit(self, before: Self) -> None:
        """A reload of the config puts this one in the place of `before`, of the same class and name. Called before
        `start`: take over what is to outlive a reload, such as what is kept in memory.

        `before` goes on with the calls that began with it, so what both hold must bear both; it is stopped after the
        last of them. A reload may still be given up: take nothing away from `before`.
        """

    async def start(self) -> None:
        """Open what the plugin needs. Called in the order of the config, before the gateway is ready."""

    async def stop(self) -> None:
        """Close it again. Called in reverse, also where a later plugin could not start."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        """Act on one call. Called for every operation; look at `call.operation` where it matters."""
        return await handler(call)

    def budgets(self, now: datetime, caller: Caller | None = None) -> Sequence[BudgetLimit]:
        """The budgets it holds calls to, for whoever administers: those it knows of, or those that this caller's
        `allowance` brings. Never waits."""
        return ()

    @classmethod
    def settings_type(cls) -> Any:
        """The `Settings` the class was declared with, or `None` for a plugin without settings."""
        for base in cls.__mro__:
            for generic in getattr(base, "__orig_bases__", ()):
                for argument in get_args(generic):
                    if isinstance(argument, type) and issubclass(argument, Struct):
                        return argument
        return None


class Observer(Plugin[S]):
    """A plugin that watches: when it fails, the call goes on without it, and the failure is logged and counted.

    It may look (`call.tap`) but not change, hold or refuse: what it raises is never the client's.
    """

    fails_open: ClassVar[bool] = True
