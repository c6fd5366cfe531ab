"""Streams of a resumable route: their client may come back for the rest, to the gateway that has them in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from sidegate.testing import Exchange
from tests.jobs.ground import (
    BOB,
    PATH,
    WORDS,
    Event,
    Scene,
    Told,
    body,
    body_at,
    config,
    cut,
    events,
    read_by_an_sdk,
    scene,
    text_of,
)
from tests.jobs.test_resumable import a_chat, ui_text
from tests.relaying import DONE, ROLE, STOP, delta, until
from tests.test_config import mistakes

TEXT = "".join(WORDS)


def route(**said: Any) -> dict[str, Any]:
    """No jobs: streams are kept in memory."""
    return {"routes": [{"name": "r", "pipeline": "main", "resumable": True, **said}], "jobs": None}


async def begun(on: Scene, told: Told, words: int, **said: Any) -> tuple[str, list[Event]]:
    """Where the stream goes on that was cut after so many words."""
    told.go(words)
    async with on.ann.post(PATH, json=body(**said)) as reply:
        return reply.headers["Content-Location"], await cut(reply, words + 1)


async def rest(on: Scene, where: str, seen: str) -> list[Event]:
    async with on.ann.get(where, headers={"Last-Event-ID": seen}) as reply:
        assert reply.status == 200, await reply.text()
        return events(await reply.text())


async def test_a_client_that_lost_its_connection_goes_on_where_it_was() -> None:
    told = Told()
    async with scene(told, base=route()) as on:
        where, first = await begun(on, told, 2)
        told.go()
        last = await rest(on, where, first[-1].id)
        assert text_of([*first, *last[:-1]]) == TEXT
        assert (last[-1].kind, '"ending":"complete"' in last[-1].data) == ("end", True)
        assert len({one.id for one in [*first, *last]}) == len([*first, *last]), "none came twice"
        assert len(on.provider.exchanges) == 1
        async with on.ann.get(where, headers={"Last-Event-ID": last[-1].id}) as reply:
            assert reply.status == 204, "whoever has seen the end is told to stop"
        assert text_of((await rest(on, where, "1-0"))[:-1]) == TEXT, "it may be read again from its start"


async def test_it_is_no_job_and_writes_none() -> None:
    base = {**route(), "jobs": {}}
    async with scene(base=base) as on:
        async with on.ann.post(PATH, json=body()) as reply:
            assert text_of(events(await reply.text())) == TEXT
            assert reply.headers["Content-Location"].startswith("/v1/streams/")
        assert (await on.get("/v1/jobs"))["data"] == []
        async with on.ann.post(PATH, json=body(), headers={"Prefer": "respond-async"}) as reply:
            assert reply.status == 202, "whoever wants a job has it"


async def test_an_sdk_reads_it_as_any_stream() -> None:
    async with scene(base=route()) as on:
        assert await read_by_an_sdk(on) == TEXT


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_other_dialects_are_resumable_too(path: str) -> None:
    async with scene(base=route()) as on, on.ann.post(path, json=body_at(path)) as reply:
        found = await reply.text()
        assert found.startswith("id: 1-1\nevent: ")
        again = await rest(on, reply.headers["Content-Location"], "1-0")
        assert again[:-1] == events(found)
        assert again[-2].kind in ("message_stop", "response.completed")


async def test_what_is_no_stream_stays_as_it_is() -> None:
    async with scene(base=route()) as on, on.ann.post(PATH, json=body(False)) as reply:
        assert (await reply.json())["choices"][0]["message"]["content"] == TEXT
        assert "Content-Location" not in reply.headers


async def test_a_failure_before_the_first_word_is_a_status_and_leads_nowhere() -> None:
    async def fails(exchange: Exchange) -> None:
        await exchange.reply(b"{}", 503)

    async with scene(fails, base=route()) as on, on.ann.post(PATH, json=body()) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (503, "provider_overloaded")
        assert "Content-Location" not in reply.headers
        assert len(on.running.service.ground.streams()) == 0


async def test_a_failure_later_is_an_event_for_all_who_read() -> None:
    told = Told()

    async def breaks(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await told._wait(exchange)
        await exchange.chunk(ROLE + delta(content="Once"))
        await told._wait(exchange)
        exchange.close()

    async with scene(breaks, base=route()) as on:
        told.go(1)
        async with on.ann.post(PATH, json=body()) as reply:
            where = reply.headers["Content-Location"]
            reading = asyncio.create_task(rest(on, where, "1-0"))
            told.go(1)
            mine = events(await reply.text())
        theirs = await reading
        assert mine == theirs[:-1]
        assert "provider" in mine[-1].data
        assert '"ending":"complete"' not in theirs[-1].data


async def test_a_failure_before_the_first_word_but_after_a_sign_of_life_is_an_event_too() -> None:
    async def fails_late(exchange: Exchange) -> None:
        await beaten.wait()
        await exchange.reply(b"{}", 503)

    beaten = asyncio.Event()
    base = {**route(), "server": {"heartbeat": 0.05, "drain": 1}}
    async with scene(fails_late, base=base) as on, on.ann.post(PATH, json=body()) as reply:
        assert (await reply.content.readline()).startswith(b":")
        beaten.set()
        (told,) = events(await reply.text())
        assert (told.id, "provider_overloaded" in told.data) == ("1-1", True)
        again = await rest(on, reply.headers["Content-Location"], "1-0")
        assert again[0] == told


async def test_a_client_that_does_not_come_back_stops_the_call() -> None:
    told = Told()
    async with scene(told, base={**route(), "streams": {"grace": 0}}) as on:
        await begun(on, told, 2)
        await asyncio.wait_for(on.provider.exchanges[0].closed.wait(), 20)
        await until(lambda: len(on.running.service.live) == 0)


async def test_within_its_grace_it_goes_on_and_may_be_stopped_by_its_id() -> None:
    told = Told()
    async with scene(told, base=route()) as on:
        told.go(1)
        async with on.ann.post(PATH, json=body()) as reply:
            where, call = reply.headers["Content-Location"], reply.headers["x-request-id"]
            first = await cut(reply, 2)
        async with on.ann.delete(f"/v1/calls/{call}") as reply:
            assert (await reply.json())["ending"] == "cancelled"
        last = await rest(on, where, first[-1].id)
        assert [one.kind for one in last] == ["message", "end"]
        assert '"code":"cancelled"' in last[0].data


async def test_anothers_stream_is_not_there() -> None:
    told = Told()
    async with scene(told, base=route()) as on, aiohttp.ClientSession(on.running.url) as other:
        where, _ = await begun(on, told, 1)
        for headers, status in (({"Authorization": f"Bearer {BOB}"}, 404), ({}, 401)):
            async with other.get(where, headers=headers) as reply:
                assert reply.status == status
        async with on.ann.get(f"/v1/streams/{'0' * 32}/events") as reply:
            assert reply.status == 404
            never = (await reply.json())["detail"]
        async with other.get(where, headers={"Authorization": f"Bearer {BOB}"}) as reply:
            assert (await reply.json())["detail"] == never, "in the words of one that never was"
        told.go()


async def test_what_a_reader_says_it_has_seen_and_nobody_knows_begins_anew() -> None:
    async with scene(base=route()) as on, on.ann.post(PATH, json=body()) as reply:
        whole = events(await reply.text())
        for seen in ("7-3", "x", "1-99"):
            again = await rest(on, reply.headers["Content-Location"], seen)
            assert (again[0].kind, again[1:-1]) == ("reset", whole)


async def test_of_a_stream_that_is_too_long_its_end_is_kept() -> None:
    async def long(exchange: Exchange) -> None:
        await tells_much(exchange, 40)

    async with scene(long, base={**route(), "streams": {"max_bytes": 4096}}) as on:
        async with on.ann.post(PATH, json=body()) as reply:
            whole = events(await reply.text())
            where = reply.headers["Content-Location"]
        async with on.ann.get(where) as reply:
            assert (reply.status, (await reply.json())["code"]) == (410, "stream_trimmed")
        assert (await rest(on, where, whole[-2].id))[0] == whole[-1]


async def test_without_memory_for_more_streams_are_as_any_other() -> None:
    told = Told()
    async with scene(told, base={**route(), "streams": {"max_total_bytes": 1024}}) as on:
        told.go()
        for _ in range(3):
            told.go()
            async with on.ann.post(PATH, json=body()) as reply:
                assert text_of(events(await reply.text())) == TEXT
        assert on.running.service.ground.streams().size <= 1024


async def tells_much(exchange: Exchange, count: int) -> None:
    await exchange.stream(ROLE, *[delta(content=f"word {number} ") for number in range(count)], STOP, DONE)


# --- the AI SDK's chats -----------------------------------------------------------------------------------------------


async def test_a_page_that_is_loaded_anew_gets_the_reply_that_is_under_way_from_its_start() -> None:
    told = Told()
    async with scene(told, base=route(default_model="m")) as on, aiohttp.ClientSession(on.running.url) as other:
        told.go(2)
        async with on.ann.post("/api/chat", json=a_chat()) as first:
            await cut(first, 2)
        async with other.get("/api/chat/chat-1/stream", headers={"Authorization": f"Bearer {BOB}"}) as reply:
            assert reply.status == 204, "nobody else's"
        async with on.ann.get("/api/chat/chat-1/stream") as again:
            assert (again.status, again.headers["x-vercel-ai-ui-message-stream"]) == (200, "v1")
            told.go()
            later = events(await again.text())
        assert ui_text(later) == TEXT
        assert later[-1].data == "[DONE]"
        async with on.ann.get("/api/chat/chat-1/stream") as reply:
            assert reply.status == 204, "nothing runs any more"
        assert len(on.provider.exchanges) == 1


async def test_plain_text_has_nothing_to_come_back_to() -> None:
    async with (
        scene(base=route(default_model="m")) as on,
        on.ann.post("/api/chat", json=a_chat(streamProtocol="text")) as reply,
    ):
        assert await reply.text() == TEXT
        assert "Content-Location" not in reply.headers


def test_workers_that_share_nothing_cannot_resume_each_others_streams() -> None:
    wrong = {**config("http://127.0.0.1:1"), **route(), "workers": 2}
    assert any("counters.url" in line for line in mistakes(wrong))
