"""`check_plugin`: each check passes what is right, and finds what is wrong with a plugin in its own way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from msgspec import Struct

from sidegate.contract import Call, Chunk, Edit, Ending, Handler, Plugin, Reply, Text
from sidegate.errors import Refusal
from sidegate.testing import PLUGIN_CHECKS, check_plugin


class Loose(Struct, frozen=True):
    a: int = 0


class Strict(Struct, frozen=True, forbid_unknown_fields=True):
    a: int = 0


class Quiet(Plugin[None]):
    """Does nothing, rightly."""


class Keyed(Plugin[Strict]):
    """Lets in who has a key."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.headers.get("x-key") != "k":
            raise Refusal(401, "no_key", "A key is needed.")
        return await handler(call)


class Lax(Plugin[Loose]):
    """Lets wrong settings pass."""


class Unstopped(Plugin[None]):
    """Cannot be stopped where it was not started."""

    async def start(self) -> None:
        self.task = asyncio.get_running_loop().create_future()

    async def stop(self) -> None:
        self.task.cancel()


class _Change(Edit):
    def __init__(self, change: Callable[[Chunk], list[Chunk]], last: str = "") -> None:
        self._change, self._last = change, last

    def see(self, chunk: Chunk) -> list[Chunk]:
        return self._change(chunk)

    def end(self, ending: Ending) -> list[Chunk]:
        return [Chunk.of(Text(self._last))] if self._last else []


class OnlyStreams(Plugin[None]):
    """Says more, and only on streams."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.streams:
            call.change(_Change(lambda chunk: [chunk.with_text(str.upper)]))
        return await handler(call)


class OnlyOneDialect(Plugin[None]):
    """Looks at the dialect."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.dialect == "anthropic.messages":
            call.change(_Change(lambda chunk: [chunk.with_text(str.upper)]))
        return await handler(call)


class Raising(Plugin[None]):
    """Raises what is no refusal."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        await handler(call)
        raise KeyError("broken")


class NeverEnds(Plugin[None]):
    """Swallows its cancellation."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        try:
            return await handler(call)
        except asyncio.CancelledError:
            return Reply()


class Swallows(Plugin[None]):
    """Takes an error for an answer."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        with suppress(Exception):
            return await handler(call)
        return Reply()


class Renames(Plugin[None]):
    """Hides what went wrong."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        try:
            return await handler(call)
        except Exception as error:
            raise RuntimeError("something") from error


class Whitewashes(Plugin[None]):
    """Makes whole what was cut."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        async with call.hold() as held:
            try:
                reply = await handler(call)
            except Exception:
                held.drop()
                from sidegate.contract import End, Finish

                said = (Text("fine"), Finish("stop"), End())
                await call.send(Chunk(parts=said, whole=not call.streams, closing=True))
                await held.release()
                return Reply()
            await held.release()
            return reply


@pytest.mark.parametrize("check", PLUGIN_CHECKS)
async def test_what_is_right_passes(check: str) -> None:
    await check_plugin(check, Quiet)


@pytest.mark.parametrize("check", ["life", "deliveries", "cancelled", "raising"])
@pytest.mark.parametrize("headers", [{}, {"x-key": "k"}], ids=["refused", "let in"])
async def test_a_guard_is_checked_by_whoever_it_lets_in_and_does_not(check: str, headers: dict[str, str]) -> None:
    await check_plugin(check, Keyed, Strict(), headers=headers)


@pytest.mark.parametrize(
    ("check", "cls", "settings", "said"),
    [
        ("life", Lax, Loose(), "wrong key"),
        ("life", Keyed, None, "its settings are"),
        ("deliveries", OnlyStreams, None, "whole"),
        ("deliveries", OnlyOneDialect, None, "anthropic.messages"),
        ("deliveries", Raising, None, "no refusal"),
        ("cancelled", NeverEnds, None, "swallowed its cancellation"),
        ("raising", Swallows, None, "was swallowed"),
        ("raising", Renames, None, "became"),
        ("refusing", Whitewashes, None, "what is not whole looks whole"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)
async def test_what_is_wrong_is_found(check: str, cls: type[Plugin[Any]], settings: Struct | None, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        await check_plugin(check, cls, settings)


async def test_a_stop_without_a_start_is_checked() -> None:
    with pytest.raises(AttributeError):
        await check_plugin("life", Unstopped)
