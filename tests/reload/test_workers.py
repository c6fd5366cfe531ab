"""Several workers: what becomes of a reload that not all of them can follow. The workers are made up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidegate.config import Loaded, read_config
from sidegate.testing import demo_config
from sidegate.workers.lifeline import Asked, Followed, Refused
from sidegate.workers.reloading import Reloading
from tests.plugins.calls import ListLog

GOOD = Followed(2, ("models",))
BAD = Followed(error="pipelines.main[0]: cannot start: no")


class MadeUp:
    """A worker that takes a config as it is told to."""

    def __init__(self, number: int, answer: Followed = GOOD) -> None:
        self.number = number
        self.serves = True
        self.code: int | None = None
        self.answer = answer
        self.loaded: Loaded | None = None
        self.given: list[Loaded] = []
        self.told: list[Followed | Refused] = []

    async def follow(self, loaded: Loaded, why: str) -> Followed:
        self.given.append(loaded)
        await asyncio.sleep(0)
        if self.answer.error is None:
            self.loaded = loaded
        return self.answer

    def tell(self, news: Followed | Refused) -> None:
        self.told.append(news)


class Place:
    def __init__(self, folder: Path, *workers: MadeUp) -> None:
        self.path = folder / "c.json"
        self.workers = workers
        self.log = ListLog()
        self.write({})
        loaded = read_config(self.path, {}, {"workers": len(workers)})
        for worker in workers:
            worker.loaded = loaded
        self.reloading = Reloading(workers, loaded, self.log)  # type: ignore[arg-type]

    def write(self, changed: Mapping[str, Any]) -> None:
        self.path.write_bytes(msgspec.json.encode({**demo_config(), "state": "s", **changed}))


async def test_what_the_first_worker_refuses_goes_no_further(tmp_path: Path) -> None:
    first, second = MadeUp(0, BAD), MadeUp(1)
    place = Place(tmp_path, first, second)
    before = place.reloading.loaded
    assert await place.reloading.reload("signal") == BAD
    assert (len(first.given), second.given, place.reloading.loaded) == (1, [], before)
    assert second.told == [Refused(BAD.error or "")], "it shows that there is a config it does not have"


async def test_a_worker_that_cannot_follow_is_named(tmp_path: Path) -> None:
    workers = [MadeUp(0), MadeUp(1, BAD), MadeUp(2)]
    place = Place(tmp_path, *workers)
    before = place.reloading.loaded
    done = await place.reloading.reload("signal")
    assert (done.status, done.code) == (500, "workers_differ")
    assert done.error == f"not all workers followed: worker 1: {BAD.error}"
    assert place.reloading.loaded is not before, "one that comes back gets the new one"
    assert [worker.loaded is before for worker in workers] == [False, True, False]


@pytest.mark.parametrize(
    ("changed", "code"), [({"models": {}, "bogus": 1}, "config_refused"), ({"listen": {"port": 1}}, "restart_needed")]
)
async def test_a_config_is_checked_before_any_worker_gets_it(
    tmp_path: Path, changed: dict[str, Any], code: str
) -> None:
    workers = [MadeUp(0), MadeUp(1)]
    place = Place(tmp_path, *workers)
    place.write(changed)
    done = await place.reloading.reload("signal")
    assert (done.code, [worker.given for worker in workers]) == (code, [[], []])
    assert [len(worker.told) for worker in workers] == [1, 1]


async def test_one_that_came_back_with_the_config_before_catches_up(tmp_path: Path) -> None:
    workers = [MadeUp(0), MadeUp(1)]
    place = Place(tmp_path, *workers)
    late = workers[1]
    late.serves = False
    await place.reloading.reload("signal")
    assert late.given == []
    late.serves = True
    place.reloading.catch_up(late)  # type: ignore[arg-type]
    await asyncio.gather(*place.reloading._tasks)
    assert late.loaded is place.reloading.loaded
    place.reloading.catch_up(workers[0])  # type: ignore[arg-type]
    await asyncio.gather(*place.reloading._tasks)
    assert len(workers[0].given) == 1


async def test_whoever_asked_hears_what_came_of_it(tmp_path: Path) -> None:
    place = Place(tmp_path, MadeUp(0), MadeUp(1))
    place.reloading.asked(place.workers[1], Asked("admin"))  # type: ignore[arg-type]
    await asyncio.gather(*place.reloading._tasks)
    assert place.workers[1].told == [GOOD]
    place.reloading.close()
    place.reloading.asked(place.workers[1], Asked("admin"))  # type: ignore[arg-type]
    await asyncio.gather(*place.reloading._tasks)
    assert place.workers[1].told[-1] == Followed(
        error="The gateway is about to stop: nothing is reloaded.", status=503, code="gateway_stopping"
    )
