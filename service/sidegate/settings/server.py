"""Settings of the server: bounds on what clients may do."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from sidegate.contract.timeouts import Seconds, TimeoutChanges
from sidegate.settings.strict import Strict


class Server(Strict, frozen=True, kw_only=True):
    """Bounds on what clients may do."""

    max_body_bytes: Annotated[int, Meta(ge=1024, le=2**30, description="Largest request body.")] = 8 * 2**20
    body_timeout: Annotated[Seconds, Meta(description="Seconds a client may take to send a body.")] = 30
    keepalive_timeout: Annotated[Seconds, Meta(description="Seconds for request headers and between requests.")] = 20
    send_timeout: Annotated[Seconds, Meta(description="Seconds a reader may stand still before it is cut.")] = 60
    heartbeat: Annotated[Seconds, Meta(description="Seconds until a silent stream shows a sign of life.")] = 15
    drain: Annotated[Seconds, Meta(description="Seconds that running calls get when the gateway stops.")] = 30
    client_timeouts: Annotated[
        TimeoutChanges, Meta(description="The longest that a client may ask for by header; else what is configured.")
    ] = field(default_factory=TimeoutChanges)
    max_calls: Annotated[int, Meta(ge=1, description="Calls in flight; more are refused with 503.")] = 10_000
    plugin_timeout: Annotated[Seconds, Meta(description="Seconds of its own a plugin may take for one call.")] = 10
    unknown_responses: Annotated[
        Literal["refuse", "pass"],
        Meta(description="What goes on from a response or a conversation that no call of its caller has made."),
    ] = "refuse"
    server_timing: Annotated[bool, Meta(description="Tell clients by `Server-Timing` where the time went.")] = False
    max_held_bytes: Annotated[int, Meta(ge=1024, description="Bytes of one reply that plugins may hold back.")] = (
        8 * 2**20
    )
