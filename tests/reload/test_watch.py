"""The watch: a config that changes on the disk is noticed, however it was exchanged, and once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from sidegate.config import read_config
from sidegate.reloading.watch import Named, Watch
from sidegate.testing import scripted
from tests.relaying import answers
from tests.reload.ground import config_of, site, until, write


class Told:
    """Counts what a watch has noticed."""

    def __init__(self, *files: Path) -> None:
        self.count = 0
        self.files = list(files)
        self.watch = Watch(lambda: self.files, self.changed, 1, sleep=self.sleep)

    async def changed(self) -> None:
        self.count += 1

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()

    async def begin(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self.watch.run())
        await until(lambda: self.watch._seen)
        return task

    async def looks(self, times: int = 2) -> int:
        for _ in range(times):
            await self.watch.look()
        return self.count


async def test_a_change_is_told_once_it_holds(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("a")
    told = Told(file)
    task = await told.begin()
    assert await told.looks(3) == 0
    file.write_text("ab")
    assert await told.looks(1) == 0, "it may still be written"
    file.write_text("abc")
    assert await told.looks(1) == 0
    assert await told.looks(1) == 1
    assert await told.looks(3) == 1, "told once, whatever came of it"
    file.unlink()
    assert await told.looks() == 2
    file.write_text("abc")
    assert await told.looks() == 3
    task.cancel()


async def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes exchanges the files of a ConfigMap."""
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "config.yaml").write_text("same length")
        os.utime(tmp_path / f"..{number}" / "config.yaml", (1, 1))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    told = Told(tmp_path / "config.yaml")
    task = await told.begin()
    (tmp_path / "..aside").symlink_to("..2")
    os.replace(tmp_path / "..aside", tmp_path / "..data")
    assert await told.looks() == 1
    task.cancel()


async def test_a_file_that_is_named_for_the_first_time_is_no_change(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    told = Told(one)
    task = await told.begin()
    told.files.append(other)
    assert await told.looks(3) == 0
    other.write_text("two")
    assert await told.looks() == 1
    task.cancel()


def test_files_that_settings_name_are_watched_and_state_is_not(tmp_path: Path) -> None:
    config = config_of(tmp_path, "http://127.0.0.1:1", {"use": "api_key", "settings": {"file": "keys.json"}})
    config["providers"]["p"] = {"dialect": "openai", "base_url": "http://127.0.0.1:1", "api_key_file": "key"}
    (tmp_path / "key").write_text("sk-x")
    write(tmp_path / "c.json", config)
    loaded = read_config(tmp_path / "c.json", {})
    named = Named(lambda: loaded)
    found = set(named())
    state = tmp_path / "state"
    assert found == {
        tmp_path / "c.json",
        *(folder / name for folder in (tmp_path, state) for name in ("key", "keys.json")),
    }
    # What is on the disk but not in force names files, too: it may be right as soon as one is there.
    config["providers"]["p"]["api_key_file"] = "another"
    write(tmp_path / "c.json", config)
    assert found < set(named())
    assert tmp_path / "another" in named()
    (tmp_path / "c.json").write_text("models: [")
    assert set(named()) == found


async def test_a_config_map_is_followed_and_a_bad_one_waits_for_the_next(tmp_path: Path) -> None:
    async with scripted(answers) as upstream:
        config = config_of(tmp_path, upstream.url, reload={"watch": True, "seconds": 0.1})
        async with site(config, tmp_path) as on:
            (tmp_path / "..1").mkdir()
            os.rename(on.path, tmp_path / "..1" / on.path.name)
            (tmp_path / "..data").symlink_to("..1")
            on.path.symlink_to(f"..data/{on.path.name}")
            watching = asyncio.create_task(on.running.gateway.watch())

            def swap(number: int, data: bytes) -> None:
                (tmp_path / f"..{number}").mkdir()
                (tmp_path / f"..{number}" / on.path.name).write_bytes(data)
                (tmp_path / "..aside").symlink_to(f"..{number}")
                os.replace(tmp_path / "..aside", tmp_path / "..data")

            plain = {name: part for name, part in config.items() if name != "mark"}
            # What has happened since it was read is noticed, too.
            await until(lambda: on.number == 2)
            swap(2, msgspec.json.encode({**plain, "models": {"n": {"provider": "p"}}}))
            await until(lambda: on.number == 3)
            assert (await on.ask(model="n"))[0] == 200
            swap(3, b"models: [")
            await until(lambda: on.running.log.events("reload_failed"))
            assert (await on.ask(model="n"))[0] == 200
            swap(4, msgspec.json.encode({**plain, "models": {"o": {"provider": "p"}}}))
            await until(lambda: on.number == 4)
            assert (await on.ask(model="o"))[0] == 200
            watching.cancel()
            assert len(on.running.log.events("reload_failed")) == 1
            assert {line["by"] for line in on.running.log.events("reloaded")} == {"watch"}


async def test_a_secret_that_comes_late_is_enough(tmp_path: Path) -> None:
    async with scripted(answers) as upstream:
        config = config_of(tmp_path, upstream.url, reload={"watch": True, "seconds": 0.1})
        async with site(config, tmp_path) as on:
            watching = asyncio.create_task(on.running.gateway.watch())
            on.write(providers={"p": {"dialect": "openai", "base_url": upstream.url, "api_key_file": "late"}})
            await until(lambda: on.running.log.events("reload_failed"))
            (tmp_path / "late").write_text("sk-late")
            await until(lambda: on.number == 2)
            assert (await on.ask())[0] == 200
            watching.cancel()
