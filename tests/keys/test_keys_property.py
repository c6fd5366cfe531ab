"""Whatever is done to keys, in whichever order: a secret is let in exactly as long as what was said of it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from sidegate.contract.keys import key_digest
from sidegate.errors import Refusal
from sidegate.keys.asked import Change, Filter, Issue, Rotate
from sidegate.keys.desk import Desk
from sidegate.keys.key import Key
from sidegate.keys.ring import KeyRing
from tests.plugins.calls import HandClock, ListLog

T = TypeVar("T")

LENGTHS = {"30m": 1800, "1h": 3600, "2h": 7200}


class Memory:
    """A store that is one dictionary, and two gateways' at once."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}

    async def add(self, key: Key) -> Key:
        self._keys[key.id] = self._stamped(key)
        return self._keys[key.id]

    async def get(self, id: str) -> Key | None:
        return self._keys.get(id)

    async def page(self, filter: Filter, now: datetime) -> list[Key]:
        return list(self._keys.values())

    async def update(self, id: str, change: Callable[[Key], Key]) -> Key | None:
        self._keys[id] = self._stamped(change(self._keys[id]))
        return self._keys[id]

    async def find(self, digests: Sequence[str]) -> list[Key]:
        asked = set(digests)
        kept = self._keys.values()
        return [key for key in kept if key.revoked_at is None and {key.digest, key.previous_digest} & asked]

    async def changed(self, since: datetime | None) -> tuple[datetime | None, frozenset[str] | None]:
        new = [key for key in self._keys.values() if since is None or key.changed_at > since]
        return max((key.changed_at for key in new), default=since), frozenset(key.id for key in new)

    async def close(self) -> None: ...

    def _stamped(self, key: Key) -> Key:
        latest = max((each.changed_at for each in self._keys.values()), default=key.changed_at)
        return replace(key, changed_at=max(key.changed_at, latest + timedelta(microseconds=1)))


@dataclass
class Said:
    """What was said of a key, in seconds of the clock."""

    id: str
    expires: float | None
    secrets: dict[str, float | None]
    """Each secret, and when it ends by its rotation."""
    revoked: bool = False
    secret: str = field(default="")


class Keys(RuleBasedStateMachine):
    """One gateway administers, another one on the same store looks for changes now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = HandClock()
        self.store = Memory()
        made = {"refresh": 3600.0, "outage": 10.0**9, "pause": 0.0}
        self.here = KeyRing(self.store, self.clock, ListLog(), size=3, **made)
        self.there = KeyRing(self.store, self.clock, ListLog(), size=3, **made)
        self.desk = Desk(self.store, self.clock, ListLog(), "test", self.here.forget)
        self.said: list[Said] = []

    def run_now(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run_now(self.here.stop())
        self.run_now(self.there.stop())
        self.loop.close()

    def one(self, data: st.DataObject) -> Said:
        return data.draw(st.sampled_from(self.said))

    def active(self, said: Said) -> bool:
        return not said.revoked and (said.expires is None or said.expires > self.clock.seconds)

    @rule(expires=st.sampled_from([None, *LENGTHS]))
    def issue(self, expires: str | None) -> None:
        told = self.run_now(self.desk.issue(Issue(name="ann", expires=expires)))
        ends = None if expires is None else self.clock.seconds + LENGTHS[expires]
        self.said.append(Said(told.key.id, ends, {told.secret: None}, secret=told.secret))

    @precondition(lambda self: self.said)
    @rule(data=st.data(), grace=st.sampled_from(["0", *LENGTHS]))
    def rotate(self, data: st.DataObject, grace: str) -> None:
        said = self.one(data)
        if not self.active(said):
            with pytest.raises(Refusal):
                self.run_now(self.desk.rotate(said.id, Rotate(grace=grace)))
            return
        told = self.run_now(self.desk.rotate(said.id, Rotate(grace=grace)))
        # Of those rotated out before, none is left.
        said.secrets = dict.fromkeys(said.secrets, 0.0)
        said.secrets[said.secret] = self.clock.seconds + LENGTHS.get(grace, 0)
        said.secrets[told.secret] = None
        said.secret = told.secret

    @precondition(lambda self: self.said)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        said = self.one(data)
        self.run_now(self.desk.revoke(said.id))
        said.revoked = True

    @precondition(lambda self: self.said)
    @rule(data=st.data(), expires=st.sampled_from([None, *LENGTHS]))
    def change(self, data: st.DataObject, expires: str | None) -> None:
        said = self.one(data)
        if said.revoked:
            with pytest.raises(Refusal):
                self.run_now(self.desk.change(said.id, Change(expires=expires)))
            return
        self.run_now(self.desk.change(said.id, Change(expires=expires)))
        said.expires = None if expires is None else self.clock.seconds + LENGTHS[expires]

    @rule(seconds=st.sampled_from([1, 1799, 1800, 3600]))
    def wait(self, seconds: int) -> None:
        self.clock.pass_by(seconds)

    @invariant()
    def a_secret_is_let_in_as_long_as_what_was_said_holds(self) -> None:
        self.run_now(self.there.refresh())
        for ring in (self.here, self.there):
            for said in self.said:
                for secret, ends in said.secrets.items():
                    holds = self.active(said) and (ends is None or ends > self.clock.seconds)
                    caller = self.run_now(ring.find(key_digest(secret)))
                    assert (None if caller is None else caller.key_id) == (said.id if holds else None)


TestKeys = Keys.TestCase
TestKeys.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
