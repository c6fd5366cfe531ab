"""Reloads under load: no stream is dropped, and every config that was in force is stopped after its last call."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from sidegate.testing import scripted
from tests.reload.ground import Site, Told, config_of, mortal, site, until

ROUNDS = 20
STREAMS = 200


async def listen(on: Site, name: str) -> str:
    """One stream to its end: its text, and how it ended."""
    body = {"model": "m", "messages": [{"role": "user", "content": name}], "stream": True}
    async with on.http.post(on.url + "/v1/chat/completions", json=body) as reply:
        assert reply.status == 200, await reply.text()
        events = [line[6:] for line in (await reply.text()).splitlines() if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    choices = [choice for event in events for choice in msgspec.json.decode(event)["choices"]]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    return "".join(choice["delta"].get("content", "") for choice in choices)


async def test_twenty_reloads_under_two_hundred_streams_drop_none(tmp_path: Path) -> None:
    provider = Told()
    async with scripted(provider) as upstream, site(config_of(tmp_path, upstream.url), tmp_path) as on:
        expected: dict[str, str] = {}
        asked: dict[str, asyncio.Task[str]] = {}

        async def open_streams(names: list[str]) -> None:
            for name in names:
                expected[name] = "begun "
                asked[name] = asyncio.create_task(listen(on, name))
            await until(lambda: all(name in provider.streams for name in names))

        await open_streams([f"first {number}" for number in range(STREAMS - ROUNDS)])
        for number in range(ROUNDS):
            await open_streams([f"round {number}"])
            on.write(pipelines={"main": {"plugins": [mortal(on.mark, says=str(number))]}})
            if number == ROUNDS // 2:
                on.path.write_text("pipelines: [")
                assert (await on.reload(422))["code"] == "config_refused"
                on.write(pipelines={"main": {"plugins": [mortal(on.mark, says=str(number))]}})
            assert (await on.reload())["generation"] == number + 2
            provider.say(f"{number} ")
            for name in provider.streams:
                expected[name] += f"{number} "
            assert len(on.running.service.live) == len(provider.streams)
            status, _, headers = await on.ask(model="none")
            assert (status, headers["x-said"]) == (404, str(number)), "a new call meets the new config"
            if number % 2:
                # All of one generation end: its own, but no other, is stopped.
                provider.finish(f"round {number - 1}")
                await until(lambda stopped=number: on.lives()[stopped - 1].events[-1] == "stop" or stopped == 1)
        assert len(provider.streams) == STREAMS - ROUNDS // 2
        for name in list(provider.streams):
            provider.finish(name)
        said = dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))
        assert said == expected
        made = [each for each in on.lives() if each.events]
        assert len(made) == ROUNDS + 1
        await until(lambda: all(each.events == ["start", "stop"] for each in made[:-1]))
        assert made[-1].events == ["start"]
        failures = on.running.log.events("reload_failed")
        assert len(failures) == 1
    assert [each.events for each in made] == [["start", "stop"]] * (ROUNDS + 1)
    assert {each.at_stop for each in made} == {0}, "each was stopped after its last call"


async def test_whole_replies_are_not_dropped_either(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    config["providers"]["p"]["settings"] = {"tokens_per_second": 0, "first_token": 0.05}
    async with site(config, tmp_path) as on:
        over = asyncio.Event()

        async def ask_on() -> int:
            count = 0
            while not over.is_set():
                status, text, _ = await on.ask()
                assert status == 200, text
                assert '"finish_reason":"stop"' in text
                count += 1
            return count

        asking = [asyncio.create_task(ask_on()) for _ in range(20)]
        for _ in range(5):
            await on.reload()
            calls = sum(each.calls for each in on.lives())
            await until(lambda before=calls: sum(each.calls for each in on.lives()) > before + 20)
        over.set()
        counts = await asyncio.gather(*asking)
        assert sum(counts) == sum(each.calls for each in on.lives())
        await until(lambda: all(each.events == ["start", "stop"] for each in on.lives()[:-1]))
    assert all(each.at_stop == 0 and "used after stop" not in each.events for each in on.lives())
