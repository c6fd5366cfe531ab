"""Watch: who waits for news of a job, wherever it runs. One question to the store for all that wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sidegate.errors import SidegateError
from sidegate.jobs.job import Head
from sidegate.jobs.store import JobStore

POLL_SECONDS = 0.25
"""Between two looks at jobs that run elsewhere; of those that run here, who waits is told at once."""


class Watch:
    """Wakes readers. `told` is for what this process has written; the rest is found by looking."""

    def __init__(self, store: JobStore, draining: Callable[[], bool]) -> None:
        self._store = store
        self._draining = draining
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._seen: dict[str, Head] = {}
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def following(self, id: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever there may be news of the job."""
        news = asyncio.Event()
        self._waiting.setdefault(id, set()).add(news)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look(), name="jobs watch")
        try:
            yield news
        finally:
            readers = self._waiting[id]
            readers.discard(news)
            if not readers:
                del self._waiting[id]
                self._seen.pop(id, None)

    def told(self, id: str) -> None:
        """Something of it is durable that was not."""
        for news in self._waiting.get(id, ()):
            news.set()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _look(self) -> None:
        while self._waiting:
            await asyncio.sleep(POLL_SECONDS)
            if self._draining():
                # Each looks whether to stay.
                for id in self._waiting:
                    self.told(id)
            try:
                heads = await self._store.heads(tuple(self._waiting)) if self._waiting else {}
            except SidegateError:
                continue  # whoever reads finds out by itself
            for id, head in heads.items():
                if self._seen.get(id) != head and id in self._waiting:
                    self._seen[id] = head
                    self.told(id)
