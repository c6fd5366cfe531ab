"""Checking: what every plugin is held to, by name, so that its tests need one line of it.

A test with the parameter `check`, each of `PLUGIN_CHECKS`, awaits `check_plugin(check, Redact, Settings(words=...))`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from sidegate.contract.call import Call
from sidegate.contract.chunk import Chunk
from sidegate.contract.meaning import Start, Text
from sidegate.contract.plugin import Handler, Plugin
from sidegate.contract.reply import Reply
from sidegate.errors import ProviderError, Refusal
from sidegate.testing.asking import CLIENTS, hear
from sidegate.testing.drive import drive, host
from sidegate.testing.misbehaviour import BREAKING, ODDITIES, REFUSING
from sidegate.testing.provider import scripted
from sidegate.testing.running import Running, gateway
from sidegate.testing.spoken import ScriptMaker, answering
from sidegate.testing.voices import VOICES

AnyPlugin: TypeAlias = type[Plugin[Any]]
AnySettings: TypeAlias = Struct | None

PATIENCE = 20.0
"""Seconds after which something hangs."""

_PATIENT = 10
"""Seconds that a provider has that is never silent: more than a busy machine takes."""


async def _life(cls: AnyPlugin, settings: AnySettings, headers: Mapping[str, str]) -> None:
    """Its settings stand in a config as they are; it starts, and stops whether or not it was started."""
    declared = cls.settings_type()
    assert (declared is None) == (settings is None), f"its settings are {declared}"
    if declared is not None:
        assert msgspec.convert(msgspec.to_builtins(settings), declared) == settings, "a config would mean others"
        assert declared.__struct_config__.forbid_unknown_fields, "a wrong key in a config would say nothing"
    await cls(settings, host()).stop()
    plugin = cls(settings, host())
    await plugin.start()
    await plugin.stop()


async def _deliveries(cls: AnyPlugin, settings: AnySettings, headers: Mapping[str, str]) -> None:
    """A client of each dialect, before a provider of each, is told the same, streamed or whole."""
    providers = {name: answering(name) for name in VOICES}
    asked = [(client, name, stream) for client in CLIENTS for name in providers for stream in (True, False)]
    async with _served(cls, settings, providers) as running:
        heard = await hear(running.url + "/with", asked, headers)
        _never_failed(running)
    for (client, name, stream), each in zip(asked, heard, strict=True):
        where = f"{client}, by {name}, {'streamed' if stream else 'whole'}: {each}"
        assert each.status == heard[0].status, where
        assert each.status < 500, where
        assert each.complete == heard[0].complete, where
        assert each.text == heard[0].text, where


async def _cancelled(cls: AnyPlugin, settings: AnySettings, headers: Mapping[str, str]) -> None:
    """A call that is stopped before its reply, or in the middle of it, has ended when its task has."""
    for words in (0, 2):
        reached = asyncio.Event()

        async def handler(call: Call, words: int = words, reached: asyncio.Event = reached) -> Reply:
            await _says(call, words)
            reached.set()
            await asyncio.Event().wait()
            raise AssertionError("nobody sets it")

        async with _started(cls, settings) as plugin:
            task = asyncio.create_task(_drive(plugin, handler, headers))
            over = asyncio.create_task(reached.wait())
            await asyncio.wait((task, over), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            over.cancel()
            if task.done() and not task.cancelled():
                assert task.result().error is not None, "it answered itself: this call cannot be cancelled"
                continue
            task.cancel()
            await asyncio.wait((task,), timeout=PATIENCE)
            assert task.done(), "it goes on after it was cancelled"
            assert task.cancelled(), "it swallowed its cancellation"


async def _raising(cls: AnyPlugin, settings: AnySettings, headers: Mapping[str, str]) -> None:
    """What is raised further in, before or after the first words, comes out, and it is the same error."""
    for words in (0, 2):
        for error in (Refusal(403, "no", "No."), ProviderError("It broke."), ValueError("A mistake.")):

            async def handler(call: Call, words: int = words, error: Exception = error) -> Reply:
                await _says(call, words)
                raise error

            async with _started(cls, settings) as plugin:
                driven = await _drive(plugin, handler, headers)
            assert driven.error is not None, f"{error!r} was swallowed"
            if not isinstance(driven.error, Refusal):
                assert driven.error is error, f"{error!r} became {driven.error!r}"
            assert not driven.failures, driven.failures


async def _breaking(cls: AnyPlugin, settings: AnySettings, headers: Mapping[str, str]) -> None:
    """Providers that fall silent, break off or talk nonsense: what is not whole without the plugin is not with it."""
    await _misbehaving(cls, settings, headers, BREAKING)


async def _refusing(cls: AnyPlugin, settings: AnySettings, headers: Mapping[str, str]) -> None:
    """Providers whose answer is no reply."""
    await _misbehaving(cls, settings, headers, REFUSING)


async def _odd(cls: AnyPlugin, settings: AnySettings, headers: Mapping[str, str]) -> None:
    """Whole replies, told in unusual ways."""
    await _misbehaving(cls, settings, headers, ODDITIES, patience=_PATIENT)


_CHECKS: Mapping[str, Callable[[AnyPlugin, AnySettings, Mapping[str, str]], Awaitable[None]]] = MappingProxyType(
    {
        "life": _life,
        "deliveries": _deliveries,
        "cancelled": _cancelled,
        "raising": _raising,
        "breaking": _breaking,
        "refusing": _refusing,
        "odd": _odd,
    }
)

PLUGIN_CHECKS = tuple(_CHECKS)
"""The names of all checks: leave out one that a plugin is made to fail, and say why."""


async def check_plugin(
    check: str, cls: AnyPlugin, settings: AnySettings = None, *, headers: Mapping[str, str] | None = None
) -> None:
    """Hold a plugin to one of `PLUGIN_CHECKS`, by `AssertionError`. `headers`: what calls need so that it lets them in.

    The class must be importable by its module and name: real gateways are started with it.
    """
    await _CHECKS[check](cls, settings, headers or {})


# --- with gateways ----------------------------------------------------------------------------------------------------


async def _misbehaving(
    cls: AnyPlugin,
    settings: AnySettings,
    headers: Mapping[str, str],
    makers: Mapping[str, ScriptMaker],
    *,
    patience: float = 1,
) -> None:
    scripts = {name: maker("openai") for name, maker in makers.items()}
    asked = [("openai.chat", name, stream) for name in scripts for stream in (True, False)]
    async with _served(cls, settings, scripts, "openai", patience=patience) as running:
        without = await hear(running.url + "/without", asked, headers)
        with_it = await hear(running.url + "/with", asked, headers)
        _never_failed(running)
    for (_, name, stream), bare, each in zip(asked, without, with_it, strict=True):
        where = f"{name}, {'streamed' if stream else 'whole'}: {each}"
        assert not each.complete or bare.complete, f"what is not whole looks whole: {where}"
        assert each.complete or not bare.complete or each.status != 200, f"what is whole looks cut: {where}"


@asynccontextmanager
async def _served(
    cls: AnyPlugin, settings: AnySettings, scripts: Mapping[str, Any], dialect: str = "", *, patience: float = _PATIENT
) -> AsyncIterator[Running]:
    """A gateway with a model for each script, at `/with` behind the plugin and at `/without` it. `patience` is the
    seconds that a silent provider has."""
    use: dict[str, Any] = {"use": f"{cls.__module__}:{cls.__qualname__}"}
    if settings is not None:
        use["settings"] = msgspec.to_builtins(settings)
    async with AsyncExitStack() as stack:
        urls = {name: (await stack.enter_async_context(scripted(script))).url for name, script in scripts.items()}
        config = {
            "providers": {
                name: {
                    "dialect": dialect or name,
                    "base_url": url,
                    "api_key": "sk-of-a-test",
                    "retry": {"attempts": 1},
                    "circuit": None,
                    "timeouts": {"connect": 5, "first_token": patience, "idle": patience, "total": 15},
                }
                for name, url in urls.items()
            },
            "models": {name: {"provider": name, "model": "real"} for name in urls},
            "pipelines": {"with": {"plugins": [use]}, "without": {}},
            "routes": [{"name": name, "pipeline": name, "prefix": f"/{name}"} for name in ("with", "without")],
            "server": {"drain": 1},
        }
        yield await stack.enter_async_context(gateway(config))


def _never_failed(running: Running) -> None:
    registry = running.service.metrics.registry
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    failures = sum(sample.value for sample in samples if sample.name == "sidegate_plugin_failures_total")
    assert not failures, "the plugin raised what is no refusal: see the log above"


# --- without ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _started(cls: AnyPlugin, settings: AnySettings) -> AsyncIterator[Plugin[Any]]:
    plugin = cls(settings, host())
    await plugin.start()
    try:
        yield plugin
    finally:
        await plugin.stop()


async def _drive(plugin: Plugin[Any], handler: Handler, headers: Mapping[str, str]) -> Any:
    return await drive(plugin, handler, headers=headers)


async def _says(call: Call, words: int) -> None:
    if words:
        await call.send(Chunk.of(Start(id="r1", model="test")))
    for number in range(words):
        await call.send(Chunk.of(Text(f"word {number} ")))
