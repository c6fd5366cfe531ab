"""What lets a blocking client meet a gateway in one process, and an async client stand in for a blocking one."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import urllib.request
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from sidegate.testing import Exchange, Running, Script, ScriptedProvider, gateway, scripted
from tests.relaying import leads_to

T = TypeVar("T")


class Ground:
    """A loop in a thread of its own. Gateways and providers live there; the test's thread may block."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ground", daemon=True)
        self._thread.start()

    def do(self, doing: Coroutine[Any, Any, T], seconds: float = 30) -> T:
        """Run it there and wait for it."""
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(seconds)

    def gateway(self, config: Mapping[str, Any]) -> Running:
        return self.do(self._stack.enter_async_context(gateway(config)))

    def provider(self, script: Script) -> ScriptedProvider:
        return self.do(self._stack.enter_async_context(scripted(script)))

    def before(self, script: Script, dialect: str = "openai", **config: Any) -> tuple[Running, ScriptedProvider]:
        """A gateway whose model `m` leads to a provider that does what `script` says."""
        provider = self.provider(script)
        made = leads_to(provider.url, dialect=dialect, **config)
        for each in made["providers"].values():
            # The tests of a worker may be those of failures alone: no circuit opens over them.
            each.setdefault("circuit", None)
        return self.gateway(made), provider

    def left(self, exchange: Exchange) -> None:
        """Wait until the gateway has closed the provider's connection."""
        self.do(asyncio.wait_for(exchange.closed.wait(), 5))

    async def shown_alive(self, running: Running) -> None:
        """Wait until the newest call has sent its client a sign of life, with nothing said."""
        *_, live = running.service.live._calls.values()
        async with asyncio.timeout(5):
            while not getattr(live.outlet.sink, "begun", False):  # noqa: ASYNC110  # nobody would set an event
                await asyncio.sleep(0.005)

    def record(self, running: Running, call_id: str) -> Any:
        """What the gateway says of a call, once it is over."""

        async def over() -> None:
            if (live := running.service.live._calls.get(call_id)) is not None:
                await live.done

        self.do(over())
        with urllib.request.urlopen(f"{running.url}/v1/calls/{call_id}", timeout=10) as reply:  # our own loopback URL
            return json.load(reply)

    def close(self) -> None:
        self.do(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Blocking:
    """An async client, or anything it gives, that reads like the blocking one: one test then holds both to a claim."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return self._met(getattr(self._inner, name))

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._met(self._inner(*args, **named))

    def __iter__(self) -> Iterator[Any]:
        items = aiter(self._inner)
        while True:
            try:
                yield self._met(self._loop.run_until_complete(anext(items)))
            except StopAsyncIteration:
                return

    def __next__(self) -> Any:
        return self._met(self._loop.run_until_complete(anext(self._inner)))

    def __enter__(self) -> Any:
        return self._met(self._loop.run_until_complete(self._inner.__aenter__()))

    def __exit__(self, *raised: Any) -> None:
        self._loop.run_until_complete(self._inner.__aexit__(*raised))

    def _met(self, value: Any) -> Any:
        if inspect.isawaitable(value):
            value = self._loop.run_until_complete(_result(value))
        name = type(value).__name__
        more = (
            callable(value) or hasattr(value, "__aiter__") or name.startswith("Async") or name.endswith("APIResponse")
        )
        return Blocking(value, self._loop) if more else value


async def _result(value: Any) -> Any:
    return await value
