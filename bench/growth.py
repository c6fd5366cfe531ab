"""Growth: what a call costs with more of everything, in instructions. It should be flat, or a straight line.

Each point is a gateway of its own with the whole pipeline on, but for what its line says.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from typing import Any

import msgspec

from bench.callers import issue, secret
from bench.counts import Counted, counted, in_batches, per_call
from bench.curve import Curve, told
from bench.lockstep import Script
from bench.replies import Incomplete
from bench.servers import Config, Server, Setting, gateway, relay
from bench.traffic import BUFFERED, Shape, request_body

KEYS_IN_USE = 100


@dataclass(frozen=True, slots=True)
class Extent:
    """How far each goes."""

    plugins: Sequence[int] = (0, 10, 20)
    keys: Sequence[int] = (100, 500_000, 1_000_000)
    routes: Sequence[int] = (1, 500, 1000)
    models: Sequence[int] = (1, 500, 1000)
    kilobytes: Sequence[int] = (1, 2000, 4000, 8000)


FULL = Extent()
QUICK = Extent((0, 5), (100, 1000), (1, 20), (1, 20), (1, 100))


def main_pipeline(config: Config) -> list[dict[str, Any]]:
    plugins: list[dict[str, Any]] = config["pipelines"]["main"]["plugins"]
    return plugins


def _gateway(change: Callable[[Config], None], prepare: Callable[[Setting], None] = lambda told: None) -> Server:
    def both(config: Config) -> None:
        in_batches(config)
        change(config)

    return gateway(both, prepare=prepare)


async def _one(server: Server, call: Callable[[Script], Awaitable[None]], calls: int = 100) -> float:
    """Millions of instructions for a call."""
    async with counted(server) as under:
        return await _million(under, lambda: call(under.script), calls)


async def _million(under: Counted, call: Callable[[], Awaitable[None]], calls: int) -> float:
    (count,) = await per_call(call, under.meter, calls=calls, blocks=1)
    print(f"  {count / 1e6:.3f}", file=sys.stderr)
    return count / 1e6


async def plugins(extent: Extent) -> Curve:
    curve = Curve("plugins", "Plugins that do nothing, besides the shipped ones", "plugins")
    calls = {"buffered": Script.buffered, "streamed, 100 tokens": _hundred}
    curve.lines.update({label: [] for label in calls})
    for count in extent.plugins:

        def change(config: Config, count: int = count) -> None:
            more = [{"use": "bench.passing:Passes", "name": f"passes-{number}"} for number in range(count)]
            main_pipeline(config).extend(more)

        async with counted(_gateway(change)) as under:
            for label, call in calls.items():
                cost = await _million(under, partial(call, under.script), 100)
                curve.lines[label].append((float(count), cost))
    return curve


async def _hundred(script: Script) -> None:
    await script.streamed(Shape(100))


async def keys(extent: Extent) -> Curve:
    """Of so many keys that are issued, a hundred are in use."""
    curve = Curve("keys", f"Keys issued, {KEYS_IN_USE} of them in use", "keys")

    def change(config: Config) -> None:
        for use in main_pipeline(config):
            if use["use"] == "api_key":
                use["settings"] = {"issued": True}

    points = []
    for count in extent.keys:

        def prepare(told: Setting, count: int = count) -> None:
            issue(told.directory / "sidegate.db", count)

        server = _gateway(change, prepare)
        known = Server(server.name, server.command, secret(0))
        step = max(1, count // KEYS_IN_USE)
        each = cycle([secret(number * step) for number in range(KEYS_IN_USE)])

        async def call(script: Script, each: cycle[str] = each) -> None:
            line = replace(script.line, key=next(each))
            await script.ask(line.request(BUFFERED, stream=False), BUFFERED)

        points.append((float(count), await _one(known, call)))
    curve.lines["buffered"] = points
    return curve


async def routes(extent: Extent) -> Curve:
    curve = Curve("routes", "Routes, the last of them taken", "routes")
    points = []
    for count in extent.routes:

        def change(config: Config, count: int = count) -> None:
            others = [{"name": f"r{at}", "pipeline": "main", "prefix": f"/team-{at}"} for at in range(count - 1)]
            config["routes"] = [*others, *config["routes"]]

        points.append((float(count), await _one(_gateway(change), Script.buffered)))
    curve.lines["buffered"] = points
    return curve


async def models(extent: Extent) -> Curve:
    curve = Curve("models", "Models configured, the last of them asked for", "models")
    for label, name in (("names", "other-{}"), ("patterns", "other-{}-*")):
        points = []
        for count in extent.models:

            def change(config: Config, count: int = count, name: str = name) -> None:
                others = {name.format(at): {"provider": "mock"} for at in range(count - 1)}
                config["models"] = {**others, **config["models"]}

            points.append((float(count), await _one(_gateway(change), Script.buffered)))
        curve.lines[label] = points
    return curve


def _long(kilobytes: int) -> bytes:
    """One message of that length."""
    return _with_messages([{"role": "user", "content": "word " * (kilobytes * 200)}])


def _many(kilobytes: int) -> bytes:
    """As much in messages of 1 KB."""
    return _with_messages([{"role": "user", "content": "word " * 194}] * kilobytes)


def _with_messages(messages: list[dict[str, str]]) -> bytes:
    body = msgspec.json.decode(request_body(BUFFERED, stream=False))
    return msgspec.json.encode({**body, "messages": messages})


async def requests(extent: Extent) -> Curve:
    curve = Curve("requests", "Size of a request", "kilobytes")
    for label, server, body in (
        ("one long message", _gateway(_roomy), _long),
        ("1 KB messages", _gateway(_roomy), _many),
        ("relay", relay(), _long),
    ):
        curve.lines[label] = [point async for point in _sizes(server, body, extent)]
    return curve


async def _sizes(server: Server, body: Callable[[int], bytes], extent: Extent) -> AsyncIterator[tuple[float, float]]:
    async with counted(server) as under:
        for size in extent.kilobytes:
            request = under.script.line.post(body(size))

            async def call(request: bytes = request) -> None:
                await under.script.ask(request, BUFFERED)

            yield float(size), await _million(under, call, 3)


async def replies(extent: Extent) -> Curve:
    curve = Curve("replies", "Size of a whole reply", "kilobytes")
    for label, server in (("sidegate", _gateway(_roomy)), ("relay", relay())):
        points = []
        async with counted(server) as under:
            for size in extent.kilobytes:
                shape = Shape(size * 1024 // 5)
                request = under.script.line.request(shape, stream=False)

                async def call(request: bytes = request, shape: Shape = shape) -> None:
                    await under.script.ask(request, shape)

                points.append((float(size), await _million(under, call, 3)))
        curve.lines[label] = points
    return curve


def _roomy(config: Config) -> None:
    config["server"]["max_body_bytes"] = 16 * 2**20


CURVES = (plugins, keys, routes, models, requests, replies)


async def all_curves(extent: Extent) -> AsyncIterator[Curve]:
    """Each in turn. One that cannot be measured is said and left out: the others took minutes."""
    for curve in CURVES:
        try:
            yield await curve(extent)
        except (Incomplete, RuntimeError, TimeoutError) as error:
            print(f"left out: {curve.__name__}: {error!r}", file=sys.stderr)


if __name__ == "__main__":
    wanted = sys.argv[1:]
    for made in CURVES:
        if not wanted or made.__name__ in wanted:
            print(told(asyncio.run(made(FULL))), flush=True)
