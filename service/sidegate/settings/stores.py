"""Settings of what is kept, and where: the ledger, issued keys, counters."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from sidegate.settings.strict import Strict


class Ledger(Strict, frozen=True, kw_only=True):
    """Where the record of calls is kept."""

    url: Annotated[str, Meta(description="`sqlite:///path`, `postgresql://user@host/database`, or empty for none.")] = (
        "sqlite:///{state}/sidegate.db"
    )
    batch_seconds: Annotated[float, Meta(ge=0, le=10, description="Longest a settled row waits in memory.")] = 0.2
    on_start_failure: Annotated[
        Literal["exit", "wait"],
        Meta(description="Where PostgreSQL cannot be used at the start: end, or refuse calls until it can."),
    ] = "exit"


class IssuedKeys(Strict, frozen=True, kw_only=True):
    """How keys that are issued are known to this process; they are kept in the ledger's database."""

    refresh: Annotated[
        float, Meta(ge=0.1, le=60, description="Seconds after which what another process changed counts here, too.")
    ] = 1.0
    outage: Annotated[
        float, Meta(ge=0, le=86_400, description="Seconds that keys in use go on while the store does not answer.")
    ] = 600.0


class Counters(Strict, frozen=True, kw_only=True):
    """Where limits are counted: in this process, or in a store that all replicas share."""

    url: Annotated[
        str,
        Meta(description="`redis://`, `rediss://`, `valkey://`, `valkeys://`, `unix://`; empty: in the process."),
    ] = ""
    timeout: Annotated[float, Meta(ge=0.001, le=10, description="Seconds that the store may cost a call.")] = 0.1
    prefix: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="What keys in the store begin with, by deployment."),
    ] = "sidegate"
    lease: Annotated[
        float, Meta(ge=1, le=3600, description="Seconds after which slots of a gateway that was killed come free.")
    ] = 30

    signal_wait: Annotated[
        float, Meta(ge=0.01, le=10, description="Seconds that the other gateways have to say whether a call is theirs.")
    ] = 0.5
