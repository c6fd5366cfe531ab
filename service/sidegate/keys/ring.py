"""Ring: the keys that are in use, in memory, so that finding one waits for nothing. What `host.keys` is."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime

from sidegate.contract.caller import Caller
from sidegate.contract.host import Clock, Log
from sidegate.errors import Refusal
from sidegate.keys.key import Key
from sidegate.keys.store import KeyStore, unavailable

BATCH = 256
"""Digests that are looked up together."""

PAUSE_SECONDS = 0.05
"""Between two look-ups: however many wrong keys come, the store is asked 20 times a second at most."""

PATIENCE_SECONDS = 4.0
"""How long one request to the store may take."""

WRONG_SECONDS = 1.0
"""How long a key is remembered that does not exist."""


@dataclass(frozen=True, slots=True)
class _Known:
    id: str
    caller: Caller
    until: datetime | None


class KeyRing:
    """`contract.keys.Keys` over a store.

    It holds at most `size` keys, those used last, and as many digests of no key. Every `refresh` seconds it asks what
    has changed; while the store does not answer, keys in memory are good for `outage` seconds more.
    """

    def __init__(
        self,
        store: KeyStore,
        clock: Clock,
        log: Log,
        *,
        refresh: float,
        outage: float,
        size: int = 10_000,
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._refresh_seconds = refresh
        self._outage = outage
        self._size = size
        self._pause = pause
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._wrong: OrderedDict[str, float] = OrderedDict()
        self._wanted: dict[str, asyncio.Future[_Known | None]] = {}
        self._since: datetime | None = None
        self._checked = clock.monotonic()
        self._changes = 0
        self._failing = False
        self._looking: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From now on changes are looked for, as long as a key is in memory."""
        self._watching = _task(self._watch())

    async def stop(self) -> None:
        tasks = [task for task in (self._watching, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._store.close()

    async def find(self, digest: str) -> Caller | None:
        known = self._known.get(digest)
        if known is None:
            found = await self._missed(digest)
            return None if found is None else self._valid(found)
        caller = self._valid(known)
        if caller is not None and self._clock.monotonic() - self._checked > self._outage:
            raise unavailable()
        self._known.move_to_end(digest)
        return caller

    def forget(self, id: str) -> None:
        """A key was changed here."""
        self._forget(frozenset({id}))

    async def refresh(self) -> None:
        """Ask once what has changed."""
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                latest, ids = await self._store.changed(self._since)
        except Exception as error:
            self._failed(error)
            return
        if ids is None or ids:
            self._forget(ids)
        self._since = latest
        self._worked(began)

    def _valid(self, known: _Known) -> Caller | None:
        return known.caller if known.until is None or known.until > self._clock.now() else None

    async def _missed(self, digest: str) -> _Known | None:
        until = self._wrong.get(digest)
        if until is not None and self._clock.monotonic() < until:
            return None
        answer = self._wanted.get(digest)
        if answer is None:
            if len(self._wanted) >= self._size:
                raise unavailable()
            answer = self._wanted[digest] = asyncio.get_running_loop().create_future()
        if self._looking is None:
            self._looking = _task(self._look_up())
        try:
            # The answer is of everybody who brought this key: none of them may cancel it.
            return await asyncio.shield(answer)
        except Refusal as error:
            raise unavailable() from error

    async def _look_up(self) -> None:
        """Answer what is wanted, some at a time, until nothing is."""
        try:
            while self._wanted:
                await self._look_for(list(self._wanted)[:BATCH])
                await asyncio.sleep(self._pause)
        finally:
            self._looking = None
            for digest in list(self._wanted):
                self._refuse(digest)

    async def _look_for(self, digests: Sequence[str]) -> None:
        changes, began = self._changes, self._clock.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                keys = await self._store.find(digests)
        except Exception as error:
            self._failed(error)
            for digest in digests:
                self._refuse(digest)
            return
        if changes != self._changes:
            return  # what was read may be from before the change: once more
        if not self._known:
            self._worked(began)
        found = {digest: _known(key, digest) for key in keys for digest in (key.digest, key.previous_digest) if digest}
        for digest in digests:
            self._keep(digest, found.get(digest), began)
            self._wanted.pop(digest).set_result(found.get(digest))

    def _refuse(self, digest: str) -> None:
        answer = self._wanted.pop(digest)
        answer.set_exception(unavailable())
        answer.exception()  # nobody may be left who waits for it

    def _keep(self, digest: str, known: _Known | None, began: float) -> None:
        if known is None:
            self._wrong[digest] = began + WRONG_SECONDS
            self._wrong.move_to_end(digest)
            if len(self._wrong) > self._size:
                self._wrong.popitem(last=False)
            return
        self._known[digest] = known
        if len(self._known) > self._size:
            self._known.popitem(last=False)

    def _forget(self, ids: frozenset[str] | None) -> None:
        self._changes += 1
        self._wrong.clear()
        for digest in [digest for digest, known in self._known.items() if ids is None or known.id in ids]:
            del self._known[digest]

    def _worked(self, began: float) -> None:
        self._checked = began
        if self._failing:
            self._failing = False
            self._log.write("key_store_back", {})

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            reason = error.__cause__ or error
            self._log.write("key_store_failing", {"error": f"{type(reason).__name__}: {reason}"[:300]})

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_seconds)
            if self._known:
                await self.refresh()


def _task(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work, name="keys")


def _known(key: Key, digest: str) -> _Known:
    return _Known(key.id, key.caller(), key.until(digest))
