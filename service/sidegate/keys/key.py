"""Key: what is on record of a key that was issued. The key itself is told once and kept nowhere."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import Struct

from sidegate.contract.allowance import Allowance
from sidegate.contract.caller import Caller

State: TypeAlias = Literal["active", "expired", "revoked"]


class Key(Struct, frozen=True, kw_only=True):
    """One key. Its id outlives every rotation, so that limits and budgets go on. Times are UTC."""

    id: str
    digest: str
    previous_digest: str | None = None
    """Of the key before the last rotation."""
    previous_until: datetime | None = None
    """Until when that is let in, too."""
    name: str
    owner: str | None = None
    team: str | None = None
    tags: tuple[str, ...] = ()
    names_end_users: bool = False
    allowance: Allowance | None = None
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    changed_at: datetime
    """Set by the store, later with every change of any key: what changed since is found by it."""

    def state(self, now: datetime) -> State:
        """A revoked key stays revoked, whatever its expiry."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    def until(self, digest: str) -> datetime | None:
        """When the secret of this digest ends by itself; `None` for never."""
        if digest == self.digest:
            return self.expires_at
        end = self.previous_until or self.created_at
        return end if self.expires_at is None else min(end, self.expires_at)

    def caller(self) -> Caller:
        """Who calls with it."""
        return Caller(
            name=self.name,
            key_id=self.id,
            team=self.team,
            tags=self.tags,
            names_end_users=self.names_end_users,
            owner=self.owner,
            allowance=self.allowance,
        )


class Shown(Struct, frozen=True, kw_only=True):
    """A key as people and programs see it: no digest."""

    id: str
    name: str
    owner: str | None
    team: str | None
    tags: tuple[str, ...]
    names_end_users: bool
    allowance: Allowance | None
    state: State
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    rotated_until: datetime | None
    """While a key that was rotated out is still let in: until when."""


def shown(key: Key, now: datetime) -> Shown:
    """What may be seen of a key at this moment."""
    state, until = key.state(now), key.previous_until
    return Shown(
        id=key.id,
        name=key.name,
        owner=key.owner,
        team=key.team,
        tags=key.tags,
        names_end_users=key.names_end_users,
        allowance=key.allowance,
        state=state,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        rotated_until=until if until is not None and until > now and state == "active" else None,
    )


def new_id() -> str:
    """A fresh public name of a key: `key-` and 16 hex digits."""
    return f"key-{secrets.token_hex(8)}"
