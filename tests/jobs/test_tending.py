"""Who is taken for dead: whoever could have said a word, and has not."""

from __future__ import annotations

import asyncio
from typing import Any

from sidegate.errors import SidegateError
from sidegate.jobs.store import Buried, Owner
from sidegate.jobs.tending import Tending
from sidegate.settings import Jobs
from tests.plugins.calls import HandClock, ListLog
from tests.relaying import until


class Others:
    """A store in which one other process runs jobs and never beats; `away` while it does not answer."""

    def __init__(self) -> None:
        self.away = False
        self.looks = 0
        self.buried: list[str] = []

    async def owners(self, but: str) -> list[tuple[str, str | None, int | None, int | None]]:
        self.looks += 1
        if self.away:
            raise SidegateError("away")
        return [("other", "elsewhere", 1, 7)]

    async def bury(self, owners: list[str], *rest: Any) -> Buried:
        self.buried += owners
        return Buried(again=(), ended=())

    async def expire(self, *rest: Any) -> int:
        return 0

    async def remove(self, *rest: Any) -> int:
        return 0

    async def count(self) -> dict[str, int]:
        return {"queued": 0, "running": 0}

    async def leave(self, owner: str) -> None:
        pass


async def test_while_the_store_is_away_nobody_is_silent() -> None:
    store, clock = Others(), HandClock()
    owner = Owner("me", "here", 2)
    tending = Tending(Jobs(lease=1), store, clock, ListLog(), owner, lambda: 0, lambda: None)  # type: ignore[arg-type]

    async def look() -> None:
        looks = store.looks
        await until(lambda: store.looks >= looks + 2)

    await tending.start()
    try:
        store.away = True
        await look()
        clock.pass_by(60)
        store.away = False
        await look()
        assert store.buried == []
        clock.pass_by(60)
        await look()
        assert store.buried == [], "nobody has looked for a minute"
        for _ in range(3):
            clock.pass_by(0.4)
            await look()
        assert store.buried
        assert {*store.buried} == {"other"}
    finally:
        await asyncio.wait_for(tending.stop(), 10)
