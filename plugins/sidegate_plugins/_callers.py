"""What a config says of callers who are known by their connection, as `unix_peer` and `client_certificate` read it."""

from __future__ import annotations

from typing import Annotated, Protocol

from msgspec import Meta

from sidegate.contract import Caller, Label

Team = Annotated[Label | None, Meta(description="The team they belong to.")]
Tags = Annotated[tuple[Label, ...], Meta(description="Labels for reports.")]
Owner = Annotated[Label | None, Meta(description="Who answers for them, for records only.")]
NamesEndUsers = Annotated[bool, Meta(description="Believe what they say about their end users.")]

_LONGEST_NAME = 256


class Known(Protocol):
    """An entry of a list of callers, as far as it says who they are."""

    @property
    def team(self) -> str | None: ...
    @property
    def tags(self) -> tuple[str, ...]: ...
    @property
    def owner(self) -> str | None: ...
    @property
    def names_end_users(self) -> bool: ...


def caller_of(name: str, key_id: str, known: Known | None) -> Caller:
    """Who calls, with what the list says of them, if anything."""
    if known is None:
        return Caller(name, key_id=key_id)
    return Caller(
        name=name,
        key_id=key_id,
        team=known.team,
        tags=known.tags,
        owner=known.owner,
        names_end_users=known.names_end_users,
    )


def can_be_a_name(text: str) -> bool:
    """Whether limits, ledger and log may call somebody so: at most 256 characters, and one line of them."""
    return len(text) <= _LONGEST_NAME and text.isprintable()
