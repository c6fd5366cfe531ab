"""Settings of how replies are delivered."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from sidegate.settings.strict import Strict

Delivery: TypeAlias = Literal["buffered", "stream", "job", "socket"]
"""How a reply reaches its client."""


class Streams(Strict, frozen=True, kw_only=True):
    """Streams of routes that are `resumable`: in the memory of their gateway, and in the store of `counters.url`."""

    grace: Annotated[
        float,
        Meta(ge=0, le=3600, description="Seconds that one whose reader has left goes on; then `on_disconnect` counts."),
    ] = 60
    keep: Annotated[float, Meta(ge=1, le=86_400, description="Seconds that what it said is kept after its end.")] = 300
    max_bytes: Annotated[
        int, Meta(ge=1024, le=2**30, description="Largest stream that is kept whole; of a larger one, its end.")
    ] = 4 * 2**20
    max_total_bytes: Annotated[
        int,
        Meta(ge=1024, le=2**36, description="Of all that this process keeps; beyond it, streams are as any other."),
    ] = 128 * 2**20
