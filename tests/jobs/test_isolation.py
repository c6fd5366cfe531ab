"""What is one caller's is not there for another: jobs, streams, chats, calls, keys. And ids are no guess."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.jobs.ground import BOB, PATH, WORDS, Told, body, cut, events, scene, text_of
from tests.jobs.test_resumable import a_chat
from tests.streams.test_resume import route

NEVER = "0" * 32
TEXT = "".join(WORDS)


@pytest.mark.parametrize(
    ("method", "below"),
    [("GET", ""), ("GET", "/result"), ("GET", "/events"), ("DELETE", ""), ("POST", "/ticket")],
)
async def test_tenant_isolation_of_jobs(method: str, below: str) -> None:
    async with scene() as on, aiohttp.ClientSession(on.running.url) as other:
        where = await on.submit()
        await on.ended(where)
        said = []
        for path in (where, f"/v1/jobs/{NEVER}"):
            headers = {"Authorization": f"Bearer {BOB}"}
            async with other.request(method, path + below, headers=headers) as reply:
                assert reply.status == 404
                said.append((await reply.json())["detail"])
        assert said[0] == said[1], "in the words of one that never was"
        async with other.get("/v1/jobs", headers={"Authorization": f"Bearer {BOB}"}) as reply:
            assert (await reply.json())["data"] == []


async def test_tenant_isolation_of_a_stream_a_chat_and_a_call() -> None:
    told = Told()
    async with scene(told, base=route(default_model="m")) as on, aiohttp.ClientSession(on.running.url) as other:
        told.go(2)
        async with on.ann.post("/api/chat", json=a_chat()) as reply:
            stream, call = reply.headers["Content-Location"], reply.headers["x-request-id"]
            await cut(reply, 2)
        bobs = {"Authorization": f"Bearer {BOB}"}
        for method, path in (("GET", stream), ("GET", f"/v1/calls/{call}"), ("DELETE", f"/v1/calls/{call}")):
            async with other.request(method, path, headers=bobs) as reply:
                assert reply.status == 404, path
        async with other.get("/api/chat/chat-1/stream", headers=bobs) as reply:
            assert reply.status == 204
        async with other.get("/v1/calls", headers=bobs) as reply:
            assert (await reply.json())["data"] == []
        told.go()


async def test_an_idempotency_key_is_its_callers_own_and_of_one_request() -> None:
    again = {"use": "idempotency", "settings": {"in_flight": "conflict"}}
    told = Told()
    async with scene(told, again) as on, aiohttp.ClientSession(on.running.url) as other:
        key = {"Idempotency-Key": "key-1"}

        async def ask(client: aiohttp.ClientSession, content: str = "x", **more: str) -> tuple[int, str]:
            async with client.post(PATH, json=body(content=content), headers={**key, **more}) as reply:
                return reply.status, text_of(events(await reply.text())) if reply.status == 200 else ""

        first = asyncio.create_task(ask(on.ann))
        await told.asked.wait()
        assert (await ask(on.ann))[0] == 409, "in flight"
        told.go()
        assert await first == (200, TEXT)
        assert await ask(on.ann) == (200, TEXT), "stored"
        assert (await ask(on.ann, "y"))[0] == 422, "another body"
        assert len(on.provider.exchanges) == 1, "one charge"
        told.go()
        assert await ask(other, Authorization=f"Bearer {BOB}") == (200, TEXT)
        assert len(on.provider.exchanges) == 2, "another's key is another key"


async def test_id_guessing_is_of_128_random_bits() -> None:
    async with scene(base={**route(), "jobs": {"batch_seconds": 0.01}}) as on:
        jobs = [(await on.submit()).rpartition("/")[2] for _ in range(20)]
        streams = []
        for _ in range(20):
            async with on.ann.post(PATH, json=body()) as reply:
                streams.append(reply.headers["Content-Location"].split("/")[3])
                assert text_of(events(await reply.text())) == TEXT
    for ids in (jobs, streams):
        assert all(len(one) == 32 and int(one, 16) >= 0 for one in ids)
        bits = [int(one, 16) for one in ids]
        # Each bit takes both values among twenty, but with a chance of one in 4,096 for one of them.
        same = sum(len({number >> bit & 1 for number in bits}) == 1 for bit in range(128))
        assert same <= 1, "no part of an id is the same, or counts"
