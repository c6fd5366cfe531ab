"""Desk: where keys are issued, rotated, revoked and changed, whoever asks. Every change is a line in the log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import replace

from sidegate.contract.host import Clock, Log
from sidegate.contract.keys import key_digest, new_key
from sidegate.errors import BadRequest, Refusal
from sidegate.keys.asked import Change, Filter, Issue, Rotate, merged
from sidegate.keys.key import Key, Shown, new_id, shown
from sidegate.keys.store import KeyStore, missing
from sidegate.keys.times import read_expiry, read_grace


class Told(Struct, frozen=True, kw_only=True):
    """A key with its secret, which is told this once."""

    secret: str
    key: Shown


class Page(Struct, frozen=True, kw_only=True):
    """Some keys, and what to ask for to see more."""

    keys: tuple[Shown, ...]
    next: str | None
    """`after` of the next page; `None` where this is the last."""


def _nobody(id: str) -> None:
    """Nobody keeps keys in memory."""


class Desk:
    """The verbs. All raise a `Refusal`: 400 for what makes no sense, 404, 409, 503."""

    def __init__(
        self, store: KeyStore, clock: Clock, log: Log, by: str, changed: Callable[[str], None] = _nobody
    ) -> None:
        """`by` is who asks, for the log; `changed` is told the id of every key that was changed."""
        self._store = store
        self._clock = clock
        self._log = log
        self._by = by
        self._changed = changed

    async def issue(self, asked: Issue) -> Told:
        now = self._clock.now()
        secret = new_key()
        key = Key(
            id=new_id(),
            digest=key_digest(secret),
            name=asked.name,
            owner=asked.owner,
            team=asked.team,
            tags=asked.tags,
            names_end_users=asked.names_end_users,
            allowance=asked.allowance if asked.allowance is not None and any(asked.allowance.needs) else None,
            created_at=now,
            expires_at=None if asked.expires is None else read_expiry(asked.expires, now),
            changed_at=now,
        )
        key = await self._store.add(key)
        self._changed(key.id)
        return Told(secret=secret, key=self._done("key_issued", key, now))

    async def rotate(self, id: str, asked: Rotate) -> Told:
        """Another secret; the id, and with it limits and budgets, go on. A secret rotated out before ends now."""
        now = self._clock.now()
        grace = read_grace(asked.grace)
        secret = new_key()

        def rotated(key: Key) -> Key:
            if key.state(now) != "active":
                raise _over(key, now)
            return replace(
                key,
                digest=key_digest(secret),
                previous_digest=key.digest if grace else None,
                previous_until=now + grace if grace else None,
                changed_at=now,
            )

        key = await self._update(id, rotated)
        return Told(secret=secret, key=self._done("key_rotated", key, now, grace_seconds=int(grace.total_seconds())))

    async def revoke(self, id: str) -> Shown:
        """For good. Of a key that is revoked already, nothing is changed."""
        now = self._clock.now()

        def revoked(key: Key) -> Key:
            return key if key.revoked_at is not None else replace(key, revoked_at=now, changed_at=now)

        key = await self._update(id, revoked)
        return self._done("key_revoked", key, now)

    async def change(self, id: str, asked: Change) -> Shown:
        """Other attributes. An expired key can be given more time; a revoked one stays as it is."""
        now = self._clock.now()
        named: dict[str, Any] = {
            name: value
            for name in ("name", "owner", "team", "tags", "names_end_users")
            if (value := getattr(asked, name)) is not UNSET
        }
        if asked.tags is None:
            named["tags"] = ()
        if asked.expires is not UNSET:
            named["expires_at"] = None if asked.expires is None else read_expiry(asked.expires, now)

        def changed(key: Key) -> Key:
            if key.revoked_at is not None:
                raise _over(key, now)
            return replace(key, **named, allowance=merged(key.allowance, asked.allowance), changed_at=now)

        return self._done("key_changed", await self._update(id, changed), now)

    async def show(self, id: str) -> Shown:
        key = await self._store.get(id)
        if key is None:
            raise missing()
        return shown(key, self._clock.now())

    async def page(self, filter: Filter) -> Page:
        """Keys as they were issued, oldest first."""
        now = self._clock.now()
        if filter.after is not None and await self._store.get(filter.after) is None:
            raise BadRequest("after: there is no key of this id", param="after")
        found = await self._store.page(filter, now)
        keys = tuple(shown(key, now) for key in found[: filter.limit])
        return Page(keys=keys, next=keys[-1].id if len(found) > filter.limit else None)

    async def _update(self, id: str, change: Callable[[Key], Key]) -> Key:
        try:
            key = await self._store.update(id, change)
        finally:
            # Also where it failed: the answer to a commit may have been lost.
            self._changed(id)
        if key is None:
            raise missing()
        return key

    def _done(self, event: str, key: Key, now: datetime, **more: object) -> Shown:
        self._log.write(event, {"by": self._by, "key_id": key.id, "name": key.name, "owner": key.owner, **more})
        return shown(key, now)


def _over(key: Key, now: datetime) -> Refusal:
    state = key.state(now)
    return Refusal(409, f"key_{state}", f"The key is {state}.")
