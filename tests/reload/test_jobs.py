"""Jobs and reloads: one that runs ends by the config it began with, one that waits is run by the one in force."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sidegate.errors import SidegateError
from sidegate.testing import scripted
from tests.reload.ground import Site, Told, config_of, mortal, site, until

ASYNC = {"Prefer": "respond-async"}


async def submit(on: Site, says: str, path: str = "", model: str = "m") -> str:
    body = {"model": model, "messages": [{"role": "user", "content": says}], "stream": True}
    async with on.http.post(on.url + path + "/v1/chat/completions", json=body, headers=ASYNC) as reply:
        assert reply.status == 202, await reply.text()
        return str((await reply.json())["id"])


async def ended(on: Site, job: str, path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(40):
        async with on.http.get(f"{on.url}{path}/v1/jobs/{job}?wait=5") as reply:
            found = await reply.json()
        if found["state"] not in ("queued", "running"):
            return found
    raise AssertionError(found)


async def test_a_running_job_ends_by_its_config_and_a_waiting_one_by_the_next(tmp_path: Path) -> None:
    provider = Told()
    async with (
        scripted(provider) as upstream,
        site(config_of(tmp_path, upstream.url, jobs={"concurrency": 1}), tmp_path) as on,
    ):
        first = await submit(on, "first")
        await until(lambda: "first" in provider.streams)
        second = await submit(on, "second")
        old = on.lives()[0]
        calls = old.calls
        on.write(jobs={"concurrency": 1}, pipelines={"main": {"plugins": [mortal(on.mark, says="new")]}})
        await on.reload()
        assert old.events == ["start"]
        provider.finish("first")
        assert (await ended(on, first))["state"] == "completed"
        await until(lambda: "second" in provider.streams)
        await until(lambda: old.events == ["start", "stop"])
        assert (old.calls, old.at_stop) == (calls, 0)
        provider.finish("second")
        assert (await ended(on, second))["state"] == "completed"


async def test_a_job_whose_route_is_gone_fails_and_says_so(tmp_path: Path) -> None:
    provider = Told()
    routes = [{"name": "a", "pipeline": "main", "prefix": "/a"}, {"name": "b", "pipeline": "main", "prefix": "/b"}]
    jobs = {"concurrency": 1}
    async with (
        scripted(provider) as upstream,
        site(config_of(tmp_path, upstream.url, jobs=jobs, routes=routes), tmp_path) as on,
    ):
        first, second = await submit(on, "first", "/a"), await submit(on, "second", "/b")
        await until(lambda: "first" in provider.streams)
        on.write(jobs=jobs, routes=routes[:1])
        await on.reload()
        provider.finish("first")
        assert (await ended(on, first, "/a"))["state"] == "completed"
        found = await ended(on, second, "/a")
        assert (found["state"], found["error"]["code"]) == ("failed", "route_gone")


async def test_what_asks_a_stopped_config_for_a_pipeline_gets_that_in_force(tmp_path: Path) -> None:
    """As the next turn of a conversation does, whose socket has gone with its config."""
    async with site(config_of(tmp_path, jobs={}), tmp_path) as on:
        old = on.running.service
        own = old.known("main")
        await on.reload()
        await until(lambda: on.lives()[0].events == ["start", "stop"])
        assert old.known("main") is on.running.service.known("main")
        assert old.known("main") is not own
        on.write(jobs={}, pipelines={"other": {}})
        await on.reload()
        with pytest.raises(SidegateError) as caught:
            old.known("main")
        assert caught.value.code == "route_gone"


async def test_a_model_that_came_by_a_reload_can_be_asked_for_by_jobs(tmp_path: Path) -> None:
    provider = Told()
    async with (
        scripted(provider) as upstream,
        site(config_of(tmp_path, upstream.url, jobs={}), tmp_path) as on,
    ):
        body = {"model": "n", "messages": [{"role": "user", "content": "hi"}]}
        async with on.http.post(on.url + "/v1/chat/completions", json=body, headers=ASYNC) as reply:
            assert reply.status == 404
        on.write(jobs={}, models={"n": {"provider": "p"}})
        await on.reload()
        job = await submit(on, "hi", model="n")
        await until(lambda: provider.streams)
        asking = asyncio.create_task(ended(on, job))
        provider.finish("hi")
        assert (await asking)["state"] == "completed"
