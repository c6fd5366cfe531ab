"""Settings of conversations that several may take part in, over the chat socket."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from sidegate.settings.strict import Strict


class Conversations(Strict, frozen=True, kw_only=True):
    """Bounds on conversations, where a route lists `socket` among its `deliveries`; they are in memory."""

    max_open: Annotated[int, Meta(ge=1, description="Conversations of this process; more are refused.")] = 1000
    per_caller: Annotated[int, Meta(ge=1, description="Of these, those that one caller has opened.")] = 100
    max_participants: Annotated[int, Meta(ge=1, le=1000, description="That take part in one at a time.")] = 16
    max_messages: Annotated[int, Meta(ge=2, description="Messages of one conversation.")] = 1000
    max_bytes: Annotated[int, Meta(ge=1024, le=2**28, description="Bytes of all its messages, as JSON.")] = 4 * 2**20
    max_waiting: Annotated[int, Meta(ge=0, le=1000, description="Turns and inputs that wait for an answer to end.")] = 8
    max_behind: Annotated[
        int, Meta(ge=1024, le=2**28, description="Bytes that a participant may be behind; then it is closed with 1013.")
    ] = 2**20
    replay_bytes: Annotated[
        int, Meta(ge=0, le=2**28, description="Bytes of the latest events that are kept for those who come back.")
    ] = 2**20
    grace: Annotated[
        float,
        Meta(
            ge=0, le=3600, description="Seconds that an answer goes on that nobody hears; then `on_disconnect` counts."
        ),
    ] = 30
    keep: Annotated[
        float, Meta(ge=0, le=86_400, description="Seconds that a conversation nobody takes part in is kept.")
    ] = 600
    ticket_seconds: Annotated[float, Meta(ge=1, le=3600, description="Seconds that a ticket opens one socket.")] = 60
    invitation_seconds: Annotated[
        float, Meta(ge=1, le=604_800, description="The longest that an invitation may be good for.")
    ] = 86_400
