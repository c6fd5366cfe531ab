"""A store that goes away while jobs run: nothing is accepted meanwhile, and nothing that was said is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing

from sidegate.ledger.opening import open_database
from tests.jobs.ground import ASYNC, PATH, WORDS, Told, body, events, scene, text_of
from tests.servers.proxy import FaultProxy
from tests.stores import prepared


async def test_a_job_outlives_an_outage_of_its_store(
    postgres_url: str, fault_proxy: Callable[[str], Awaitable[FaultProxy]]
) -> None:
    prepared("postgresql", postgres_url)
    broken = await fault_proxy(postgres_url)
    told = Told()
    async with scene(told, base={"ledger": {"url": broken.url, "batch_seconds": 0.05}}, lease=60) as on:
        where = await on.submit()
        told.go(2)
        async with asyncio.timeout(20):
            while (await on.get(where))["progress"]["events"] < 3:  # noqa: ASYNC110  # another task's doing
                await asyncio.sleep(0.01)
        await broken.refuse()
        async with on.ann.post(PATH, json=body(), headers=ASYNC) as reply:
            assert (reply.status, (await reply.json())["error"]["code"]) == (503, "jobs_unavailable")
        async with on.ann.get(where) as reply:
            assert reply.status == 503
        told.go()
        await asyncio.sleep(0.5)
        await broken.heal()
        async with asyncio.timeout(30):
            while True:
                async with on.ann.get(where) as reply:
                    if reply.status == 200 and (await reply.json())["state"] == "completed":
                        break
                await asyncio.sleep(0.05)
        async with on.ann.get(f"{where}/events") as reply:
            assert text_of(events(await reply.text())) == "".join(WORDS)
        assert len(on.provider.exchanges) == 1


async def test_a_gateway_that_runs_no_job_writes_nothing() -> None:
    async with scene(lease=1) as on:
        await on.ended(await on.submit())
        jobs = on.running.service.jobs
        assert jobs is not None
        while len(jobs.worker):  # noqa: ASYNC110  # another task's doing
            await asyncio.sleep(0.01)
        await jobs.store.leave(jobs.owner.id)
        with closing(open_database(on.running.service.settings.ledger.url)) as database:
            await asyncio.sleep(1)
            assert database.execute("SELECT count(*) FROM job_owners").fetchone() == (0,)


LOADED = """
import asyncio, sys
from sidegate.testing import demo_config, gateway

async def main():
    async with gateway(demo_config()):
        print(sorted(name for name in sys.modules if name.startswith(("sidegate.jobs", "sidegate.http.job"))))

asyncio.run(main())
"""


def test_without_jobs_nothing_of_them_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
