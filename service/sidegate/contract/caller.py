"""Caller: who a call is from, and what a reply is named by where nobody named it."""

from __future__ import annotations

from dataclasses import dataclass

from sidegate.contract.allowance import Allowance


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: named by an authenticating plugin, believed by all others."""

    name: str
    key_id: str | None = None
    """A public name of the key that was used; never the key."""
    team: str | None = None
    tags: tuple[str, ...] = ()
    names_end_users: bool = False
    """Whether what the caller says about its end user is believed."""
    owner: str | None = None
    """Who answers for the key: a person or a service, for records only."""
    allowance: Allowance | None = None
    """What the key or token lets its bearer use, beside what the config says; counted by key, else by name."""


ANONYMOUS = Caller("anonymous")


@dataclass(frozen=True, slots=True)
class Naming:
    """What the gateway makes a reply's ids and time from, where the provider gave none."""

    id: str
    created: int
    """Unix seconds."""
