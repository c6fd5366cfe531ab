"""Routes that are resumable and go on without their client: a stream is a job whose client reads along."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.testing import Exchange
from tests.jobs.ground import (
    BOB,
    PATH,
    WORDS,
    Event,
    Told,
    body,
    body_at,
    config,
    cut,
    events,
    read_by_an_sdk,
    scene,
    tells,
    text_of,
)
from tests.test_config import mistakes

TEXT = "".join(WORDS)
GOES_ON = {"name": "r", "pipeline": "main", "resumable": True, "on_disconnect": "continue"}
ROUTE: dict[str, Any] = {"routes": [GOES_ON]}


async def test_a_client_that_lost_its_connection_goes_on_where_it_was() -> None:
    told = Told()
    async with scene(told, base=ROUTE) as on:
        told.go(2)
        async with on.ann.post(PATH, json=body()) as reply:
            where = reply.headers["Content-Location"]
            first = await cut(reply, 3)
        told.go()
        async with on.ann.get(where, headers={"Last-Event-ID": first[-1].id}) as reply:
            rest = events(await reply.text())
        assert text_of([*first, *rest[:-1]]) == TEXT
        assert rest[-1].kind == "end"
        assert len({one.id for one in [*first, *rest]}) == len([*first, *rest])
        assert len(on.provider.exchanges) == 1
        assert (await on.get(f"/v1/jobs/{where.split('/')[3]}"))["state"] == "completed"


async def test_an_sdk_reads_it_as_any_stream() -> None:
    async with scene(base=ROUTE) as on:
        assert await read_by_an_sdk(on) == TEXT


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_other_dialects_are_resumable_too(path: str) -> None:
    async with scene(base=ROUTE) as on, on.ann.post(path, json=body_at(path)) as reply:
        found = await reply.text()
        assert found.startswith("id: 1-1\nevent: ")
        assert events(found)[-1].kind in ("message_stop", "response.completed")


async def test_what_is_no_stream_is_no_job() -> None:
    async with scene(base=ROUTE) as on:
        async with on.ann.post(PATH, json=body(False)) as reply:
            assert (await reply.json())["choices"][0]["message"]["content"] == TEXT
            assert "x-sidegate-job" not in reply.headers
        assert (await on.get("/v1/jobs"))["data"] == []


async def test_a_failure_before_the_first_word_is_a_status() -> None:
    async def fails(exchange: Exchange) -> None:
        await exchange.reply(b"{}", 503)

    async with scene(fails, base=ROUTE) as on, on.ann.post(PATH, json=body()) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (503, "provider_overloaded")


async def test_a_limit_that_has_no_room_is_said_at_once() -> None:
    limit = {"use": "rate_limit", "settings": {"limits": [{"name": "a", "requests": 1, "period": "day"}]}}
    async with scene(tells, limit, base=ROUTE) as on:
        async with on.ann.post(PATH, json=body()) as reply:
            assert text_of(events(await reply.text())) == TEXT
        async with on.ann.post(PATH, json=body()) as reply:
            assert (reply.status, "Retry-After" in reply.headers) == (429, True)


async def test_a_client_that_leaves_stops_nothing() -> None:
    told = Told()
    async with scene(told, base=ROUTE) as on:
        told.go(1)
        async with on.ann.post(PATH, json=body()) as reply:
            job = reply.headers["x-sidegate-job"]
            await reply.content.readany()
        told.go()
        assert (await on.ended(f"/v1/jobs/{job}"))["state"] == "completed"


async def test_a_job_that_begins_anew_ends_a_stream_in_an_error_and_can_be_followed() -> None:
    told = Told()
    async with scene(told, base=ROUTE) as on:
        told.go(2)
        async with on.ann.post(PATH, json=body()) as reply:
            where = reply.headers["Content-Location"]
            await reply.content.readany()
            jobs = on.running.service.jobs
            assert jobs is not None
            ((owner, *_),) = await jobs.store.owners("nobody")
            await jobs.store.bury([owner], 9, "2999", "2999")  # as another gateway would that takes it for dead
            going = asyncio.create_task(goes_on(told))
            async with asyncio.timeout(20):
                last = events(await reply.text())[-1]
            assert "job_begun_anew" in last.data
        async with on.ann.get(where, headers={"Last-Event-ID": "1-2"}) as reply:
            first, *rest = events(await reply.text())
        going.cancel()
        assert first.kind == "reset"
        assert text_of(rest) == TEXT


@pytest.mark.parametrize("path", [PATH, "/v1/responses", "/v1/messages"])
async def test_a_stream_whose_gateways_have_died_of_it_ends_in_an_error(path: str) -> None:
    """At the client that reads along, and for whoever fetches the result: what was cut is not passed for whole."""
    told = Told()
    async with scene(told, base=ROUTE) as on:
        told.go(2)
        async with on.ann.post(path, json=body_at(path)) as reply:
            where = f"/v1/jobs/{reply.headers['x-sidegate-job']}"
            await reply.content.readany()
            await on.until(where, "running")
            while not (await on.get(where))["progress"]["events"]:  # noqa: ASYNC110  # another task's doing
                await asyncio.sleep(0.01)
            jobs = on.running.service.jobs
            assert jobs is not None
            ((owner, *_),) = await jobs.store.owners("nobody")
            await jobs.store.bury([owner], 1, "2999", "2999")
            async with asyncio.timeout(20):
                last = events(await reply.text())[-1]
            assert "when its gateway died" in last.data
        told.go()
        async with on.ann.get(f"{where}/result") as reply:
            assert "when its gateway died" in events(await reply.text())[-1].data


@pytest.mark.parametrize("path", [PATH, "/v1/responses", "/v1/messages"])
async def test_a_stream_whose_job_is_cancelled_before_it_begins_is_told(path: str) -> None:
    told = Told()
    async with scene(told, base=ROUTE, concurrency=1) as on:
        first = await on.submit(**body())
        await on.until(first, "running")
        asking = asyncio.create_task(on.ann.post(path, json=body_at(path)))
        async with asyncio.timeout(20):
            while not (waiting := await on.get("/v1/jobs?state=queued"))["data"]:  # noqa: ASYNC110  # another's
                await asyncio.sleep(0.01)
        async with on.ann.delete(f"/v1/jobs/{waiting['data'][0]['id']}") as reply:
            assert reply.status == 200
        async with await asking as reply:
            assert (reply.status, "cancelled" in await reply.text()) == (499, True)
        told.go()


# --- the AI SDK's chats -----------------------------------------------------------------------------------------------

CHATS = {"routes": [{**GOES_ON, "default_model": "m"}]}


def a_chat(chat: str = "chat-1", **said: Any) -> dict[str, Any]:
    message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "x"}]}
    return {"id": chat, "messages": [message], "trigger": "submit-message", **said}


def ui_text(found: list[Event]) -> str:
    parts = [msgspec.json.decode(one.data) for one in found if one.data != "[DONE]"]
    return "".join(part["delta"] for part in parts if part["type"] == "text-delta")


async def test_a_page_that_is_loaded_anew_gets_the_reply_that_is_under_way_from_its_start() -> None:
    told = Told()
    async with scene(told, base=CHATS) as on:
        told.go(2)
        async with on.ann.post("/api/chat", json=a_chat()) as first:
            assert first.headers["x-vercel-ai-ui-message-stream"] == "v1"
            await first.content.readany()
            async with on.ann.get("/api/chat/chat-1/stream") as again:
                assert (again.status, again.headers["x-vercel-ai-ui-message-stream"]) == (200, "v1")
                told.go()
                later = events(await again.text())
        assert ui_text(later) == TEXT
        assert later[-1].data == "[DONE]"
        async with on.ann.get("/api/chat/chat-1/stream") as reply:
            assert reply.status == 204, "nothing runs any more"
        assert len(on.provider.exchanges) == 1


async def test_nobody_elses_chat_is_told() -> None:
    told = Told()
    async with scene(told, base=CHATS) as on, aiohttp.ClientSession(on.running.url) as other:
        told.go(1)
        async with on.ann.post("/api/chat", json=a_chat()):
            headers = {"Authorization": f"Bearer {BOB}"}
            async with other.get("/api/chat/chat-1/stream", headers=headers) as reply:
                assert reply.status == 204
            async with other.get("/api/chat/chat-1/stream") as reply:
                assert reply.status == 401
            async with on.ann.get("/api/chat/chat-2/stream") as reply:
                assert reply.status == 204
        told.go()


async def test_a_chats_next_reply_takes_the_place_of_the_one_before() -> None:
    told = Told()
    async with scene(told, base=CHATS) as on:
        for _ in range(2):
            told.go()
            async with on.ann.post("/api/chat", json=a_chat()) as reply:
                assert ui_text(events(await reply.text())) == TEXT
        told.go(1)
        async with on.ann.post("/api/chat", json=a_chat()), on.ann.get("/api/chat/chat-1/stream") as again:
            assert again.status == 200
            told.go()
            assert ui_text(events(await again.text())) == TEXT


async def test_plain_text_is_no_job() -> None:
    async with scene(base=CHATS) as on:
        async with on.ann.post("/api/chat", json=a_chat(streamProtocol="text")) as reply:
            assert await reply.text() == TEXT
        assert (await on.get("/v1/jobs"))["data"] == []


async def test_a_chat_is_accepted_as_a_job() -> None:
    async with scene(base=CHATS) as on:
        where = await on.submit(path="/api/chat", **a_chat())
        await on.ended(where)
        async with on.ann.get(f"{where}/result") as reply:
            assert reply.headers["x-vercel-ai-ui-message-stream"] == "v1"
            assert ui_text(events(await reply.text())) == TEXT


async def goes_on(told: Told) -> None:
    """For both runs: the one that is lost does not know it yet."""
    while True:
        told.go(1)
        await asyncio.sleep(0.05)


def test_a_route_cannot_be_resumable_without_jobs() -> None:
    assert any("set `jobs`" in line for line in mistakes({**config("http://127.0.0.1:1"), **ROUTE, "jobs": None}))
