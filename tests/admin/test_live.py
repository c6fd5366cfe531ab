"""The live stream: one ticker for all who listen, none where nobody does, and nobody's slowness is another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.http.admin import live
from sidegate.http.admin.live import MISSED, MOST_LISTENERS, Ticker
from sidegate.telemetry.pace import Pace, Snapshot, quantile
from tests.admin.ground import ADMIN, Desk, administered, config, until


@asynccontextmanager
async def listening(desk: Desk) -> AsyncIterator[aiohttp.ClientResponse]:
    async with desk.http.get(desk.running.admin_url + "/admin/live", headers=ADMIN) as reply:
        assert (reply.status, reply.content_type) == (200, "text/event-stream")
        yield reply


async def event(reply: aiohttp.ClientResponse) -> dict[str, Any]:
    async with asyncio.timeout(20):
        assert await reply.content.readline() == b"event: live\n"
        data = await reply.content.readline()
        assert await reply.content.readline() == b"\n"
    assert data.startswith(b"data: ")
    return dict(msgspec.json.decode(data[6:]))


def tickers() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "admin live"]


async def _nobody_ticks() -> bool:
    return not tickers()


async def test_what_goes_on_is_told_at_once_and_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SECONDS", 0.05)
    async with administered(config()) as desk:
        await desk.says()
        await desk.says(stream=True)
        await desk.says(model="nobody", status=404)
        async with desk.streaming("bob") as stream, listening(desk) as reply:
            first, second = await event(reply), await event(reply)
            assert first["in_flight"] == 1
            assert [each["id"] for each in first["calls"]] == [stream.headers["x-request-id"]]
            assert first["by_ending"] == {"complete": 2, "refused": 1}
            assert first["calls_total"] == 3
            assert first["first_token_seconds"]["p50"] <= first["first_token_seconds"]["p99"]
            assert first["first_token_seconds"]["over_seconds"] is None
            assert second["at"] > first["at"]
            assert not second["draining"]


async def test_nothing_runs_while_nobody_listens_and_one_ticker_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SECONDS", 0.05)
    async with administered(config()) as desk:
        assert tickers() == []
        async with listening(desk) as one, listening(desk) as other:
            await event(one)
            await event(other)
            assert tickers() == ["admin live"]
        await until(_nobody_ticks)


async def _may_listen(desk: Desk) -> bool:
    async with desk.http.get(desk.running.admin_url + "/admin/live", headers=ADMIN) as reply:
        return reply.status == 200


async def test_more_than_so_many_may_not_listen() -> None:
    async with administered(config()) as desk:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            desk.http = http
            listeners = [listening(desk) for _ in range(MOST_LISTENERS)]
            for each in listeners:
                await each.__aenter__()
            found = await desk.asks("/admin/live", 503)
            assert found["code"] == "live_busy"
            await listeners.pop().__aexit__(None, None, None)
            await until(partial(_may_listen, desk))
            for each in listeners:
                await each.__aexit__(None, None, None)


async def test_who_does_not_read_misses_events_and_nothing_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SECONDS", 0.001)
    async with administered(config()) as desk:
        ticker = Ticker(lambda: desk.running.service)
        asleep, awake = ticker.join(), ticker.join()
        for _ in range(20):
            assert await asyncio.wait_for(awake.get(), 10)
        assert asleep.qsize() == MISSED
        await ticker.close()
        assert [asleep.get_nowait() for _ in range(MISSED)][-1] is None
        ticker.leave(asleep)
        ticker.leave(awake)


async def test_the_stream_ends_when_the_gateway_stops() -> None:
    async with administered(config()) as desk:
        async with listening(desk) as reply:
            await event(reply)
            await asyncio.wait_for(desk.running.gateway.stop(), 20)
            assert (await asyncio.wait_for(reply.read(), 10)).count(b"event: live") < 3


# --- pace -------------------------------------------------------------------------------------------------------------


def taken(at: float, first: list[int], **given: Any) -> Snapshot:
    fields: dict[str, Any] = {"by_ending": {}, "input_tokens": 0.0, "output_tokens": 0.0, "per_token": [0, 0], **given}
    return Snapshot(at=at, first=first, **fields)


def test_percentiles_are_of_the_last_minute_or_since_the_start() -> None:
    pace = Pace((1.0, 2.0), (1.0,))
    pace.take(taken(0, [0, 0, 0]))
    assert pace.first_token() is None
    pace.take(taken(30, [100, 0, 0]))
    early = pace.first_token()
    assert early is not None
    assert (early.p50, early.over_seconds) == (0.5, 30)
    pace.take(taken(70, [100, 100, 0]))
    pace.take(taken(95, [100, 100, 0]))
    late = pace.first_token()
    assert late is not None
    assert (late.p50, late.over_seconds) == (1.5, 65)
    pace.take(taken(200, [100, 100, 0]))
    pace.take(taken(300, [100, 100, 0]))
    quiet = pace.first_token()
    assert quiet is not None
    assert (quiet.p50, quiet.over_seconds) == (1.0, None)


def test_rates_are_of_the_last_second_and_never_below_nothing() -> None:
    pace = Pace((1.0,), (1.0,))
    pace.take(taken(0, [0, 0], by_ending={"complete": 1}, output_tokens=100.0))
    assert pace.calls_per_second() == 0
    pace.take(taken(2, [0, 0], by_ending={"complete": 5}, input_tokens=8.0, output_tokens=90.0))
    assert pace.calls_per_second() == 2
    assert (pace.tokens_per_second().input, pace.tokens_per_second().output) == (4, 0)


def test_what_lies_beyond_the_last_bound_counts_as_it() -> None:
    assert quantile((1.0, 2.0), [0, 0, 5], 0.5) == 2.0
    assert quantile((1.0, 2.0), [1, 0, 1], 0.5) == 1.0
