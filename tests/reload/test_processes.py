"""Reloads of real processes: by a signal, by a request, by the file; alone and with several workers."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from sidegate.testing import scripted
from tests.relaying import answers, leads_to
from tests.reload.ground import Told, until
from tests.supervised import Supervised, eventually, one_connection_a_call, supervised, written
from tests.test_drain import serve


def rewritten(folder: Path, config: dict[str, Any], **changed: Any) -> None:
    """The config that a process was started with, but for these parts."""
    written(folder, {**config, **changed})


def team(name: str) -> list[dict[str, Any]]:
    return [{"name": name, "pipeline": "main", "prefix": f"/{name}"}]


async def status(http: aiohttp.ClientSession, url: str, **more: Any) -> int:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    async with http.post(url + "/v1/chat/completions", json=body) as reply:
        await reply.read()
        return reply.status


async def test_a_hangup_reloads_and_no_stream_hears_of_it(tmp_path: Path) -> None:
    provider = Told()
    async with (
        scripted(provider) as upstream,
        serve(tmp_path, upstream.url, drain=20) as served,
        aiohttp.ClientSession() as http,
    ):
        asking = asyncio.create_task(status(http, served.url, stream=True))
        await until(lambda: provider.streams)
        path = tmp_path / "config.json"
        config = msgspec.json.decode(path.read_bytes())
        path.write_bytes(msgspec.json.encode({**config, "routes": team("new")}))
        served.process.send_signal(signal.SIGHUP)

        async def is_in_force() -> bool:
            async with http.get(served.url + "/v1/models") as old, http.get(served.url + "/new/v1/models") as new:
                return (old.status, new.status) == (404, 200)

        await eventually(is_in_force)
        path.write_text("models: [")
        served.process.send_signal(signal.SIGHUP)

        async def says_so() -> bool:
            async with http.get(served.admin + "/readyz?verbose") as reply:
                return "the last reload failed, config 2 is in force" in await reply.text()

        await eventually(says_so)
        provider.finish("hi")
        assert await asking == 200
        served.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(served.process.wait(), 30) == 0
    assert served.endings() == ["complete"]


async def generations(http: aiohttp.ClientSession, running: Supervised) -> list[str]:
    found = []
    for admin in running.admins:
        async with http.get(admin + "/metrics") as reply:
            lines = (await reply.text()).splitlines()
            found += [line.split()[1] for line in lines if line.startswith("sidegate_config_generation ")]
    return found


async def test_a_hangup_of_the_supervisor_reloads_every_worker(tmp_path: Path) -> None:
    async with scripted(answers) as upstream:
        config = leads_to(upstream.url)
        async with (
            supervised(tmp_path, config, "--workers", "2") as running,
            one_connection_a_call() as http,
        ):
            workers = sorted(running.pids())
            rewritten(tmp_path, config, routes=team("new"))
            running.process.send_signal(signal.SIGHUP)
            await eventually(lambda: running.told("workers_reloaded"))
            assert await generations(http, running) == ["2.0", "2.0"]
            for _ in range(6):
                async with http.get(running.url + "/new/v1/models") as new, http.get(running.url + "/v1/models") as old:
                    assert (new.status, old.status) == (200, 404)
            assert sorted(running.pids()) == workers

            # A mistake is told to all; none changes.
            (tmp_path / "config.json").write_text("models: [")
            running.process.send_signal(signal.SIGHUP)
            await eventually(lambda: running.told("reload_failed"))
            for admin in running.admins:
                await eventually(partial(says_why, http, admin))
            assert await generations(http, running) == ["2.0", "2.0"]

            # Whoever asks one worker asks all.
            rewritten(tmp_path, config, routes=team("third"))
            async with http.post(running.admins[1] + "/admin/reload") as reply:
                assert await reply.json() == {"object": "reload", "generation": 3, "changed": ["routes"]}
            assert await generations(http, running) == ["3.0", "3.0"]
            rewritten(tmp_path, config, state="elsewhere")
            async with http.post(running.admins[0] + "/admin/reload") as reply:
                assert (reply.status, (await reply.json())["code"]) == (409, "restart_needed")
            rewritten(tmp_path, config, pipelines={"main": {"plugins": [{"use": "nobody_knows"}]}})
            async with http.post(running.admins[0] + "/admin/reload") as reply:
                assert (reply.status, (await reply.json())["code"]) == (422, "config_refused")
            for admin in running.admins:
                await eventually(partial(says_why, http, admin))
            assert await generations(http, running) == ["3.0", "3.0"]

            # One that comes back has what is in force.
            os.kill(workers[0], signal.SIGKILL)
            await eventually(lambda: running.told("worker_started"))
            for _ in range(6):
                async with http.get(running.url + "/third/v1/models") as reply:
                    assert reply.status == 200
            assert await running.stop() == 0


async def test_a_signal_to_a_worker_reloads_all(tmp_path: Path) -> None:
    async with scripted(answers) as upstream:
        config = leads_to(upstream.url, workers=2)
        async with supervised(tmp_path, config) as running, one_connection_a_call() as http:
            os.kill(running.pids()[0], signal.SIGHUP)
            await eventually(lambda: running.told("workers_reloaded"))
            assert await generations(http, running) == ["2.0", "2.0"]


async def test_the_supervisor_watches_for_its_workers(tmp_path: Path) -> None:
    async with scripted(answers) as upstream:
        config = leads_to(upstream.url, workers=2, reload={"watch": True, "seconds": 0.1})
        async with supervised(tmp_path, config) as running, one_connection_a_call() as http:
            rewritten(tmp_path, config, routes=team("new"))
            await eventually(lambda: running.told("workers_reloaded"))
            assert await generations(http, running) == ["2.0", "2.0"]
            (done,) = running.events("workers_reloaded")
            assert (done["by"], done["changed"], done["failed"]) == ("watch", ["routes"], {})


async def says_why(http: aiohttp.ClientSession, admin: str) -> bool:
    async with http.get(admin + "/readyz?verbose") as reply:
        return "the last reload failed" in await reply.text()
