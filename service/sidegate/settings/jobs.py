"""Settings of jobs."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from sidegate.settings.strict import Strict

CREDENTIALS = frozenset(
    ("api-key", "authorization", "cookie", "proxy-authorization", "x-api-key", "x-goog-api-key", "x-amz-security-token")
)
"""Headers that bear them, in lower case."""


class Jobs(Strict, frozen=True, kw_only=True):
    """Calls that are accepted and fetched later, by `Prefer: respond-async`; they are kept in the ledger's database."""

    concurrency: Annotated[int, Meta(ge=1, le=10_000, description="Jobs that this process runs at a time.")] = 16
    per_caller: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Jobs of one caller that run at a time, wherever.")
    ] = None
    per_model: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Jobs of one model name that run at a time, wherever.")
    ] = None
    max_queued: Annotated[int, Meta(ge=1, description="Jobs of one caller that may wait; more are refused.")] = 1000
    most_urgent: Annotated[
        int, Meta(ge=0, le=7, description="The most urgent that `Priority: u=` may ask for; 0 is the most, 3 usual.")
    ] = 0
    max_wait: Annotated[float, Meta(ge=0, le=600, description="The longest that `wait=` counts, in seconds.")] = 60
    time_to_live: Annotated[
        float, Meta(ge=1, le=30 * 86_400, description="Seconds after which one that has not ended is given up.")
    ] = 86_400
    keep: Annotated[
        float, Meta(ge=1, le=365 * 86_400, description="Seconds that what it said is kept after its end.")
    ] = 86_400
    max_kills: Annotated[
        int, Meta(ge=1, le=100, description="So often a gateway may die while it runs; then it is not tried again.")
    ] = 3
    lease: Annotated[
        float, Meta(ge=1, le=3600, description="Seconds after which a gateway that is silent has lost its jobs.")
    ] = 5
    batch_seconds: Annotated[
        float, Meta(ge=0, le=10, description="Longest an event waits in memory before it is durable, and can be read.")
    ] = 0.1
    max_result_bytes: Annotated[int, Meta(ge=1024, le=2**30, description="Largest reply of a job, as events.")] = (
        16 * 2**20
    )
    ticket_seconds: Annotated[
        float, Meta(ge=1, le=86_400, description="Seconds that a ticket opens the events of its job.")
    ] = 300
    headers: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]+$")], ...],
        Meta(description="Further request headers that plugins need when it runs; never one that bears a credential."),
    ] = ()

    def __post_init__(self) -> None:
        for name in self.headers:
            if name.lower() in CREDENTIALS:
                raise ValueError(f"`headers`: {name} bears a credential, and those are never kept")
