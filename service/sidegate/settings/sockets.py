"""Settings of sockets: connections on which both sides talk."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from sidegate.cors import check_origins
from sidegate.settings.strict import Strict

NAMED_ONLY: Final = frozenset({"realtime"})
"""Operations that are served only where a route names them: a connection that stays open is not had by default."""


class Sockets(Strict, frozen=True, kw_only=True):
    """Bounds on WebSockets, of every route that serves them."""

    origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Pages that may open one, written as in `listen.cors`; empty: those of `listen.cors.origins`, "
            "and pages of the gateway's own host."
        ),
    ] = ()
    max_message_bytes: Annotated[
        int, Meta(ge=1024, le=2**28, description="Largest message, either way; a larger one closes with 1009.")
    ] = 16 * 2**20
    idle: Annotated[
        float, Meta(ge=0.01, le=86_400, description="Seconds in which neither side says anything; then it is closed.")
    ] = 300
    ping: Annotated[
        float, Meta(ge=0.01, le=3600, description="Seconds of silence after which the client is asked for a pong.")
    ] = 20
    pong: Annotated[
        float, Meta(ge=0.01, le=3600, description="Seconds that a pong may take; then the connection is cut.")
    ] = 20
    longest: Annotated[
        float, Meta(ge=1, le=7 * 86_400, description="Seconds after which a session is closed, however lively.")
    ] = 7200
    closing: Annotated[
        float, Meta(ge=0.01, le=60, description="Seconds that a side gets to close as it is asked to.")
    ] = 3

    def __post_init__(self) -> None:
        check_origins(self.origins)
