"""Which delivery a route allows, and what it says to whoever asks for another."""

from __future__ import annotations

from typing import Any

import pytest

from tests.jobs.ground import ASYNC, PATH, Told, body, config, scene
from tests.test_config import mistakes

GEMINI = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}


def route(*deliveries: str, **said: Any) -> dict[str, Any]:
    return {"routes": [{"name": "r", "pipeline": "main", "deliveries": list(deliveries), **said}]}


@pytest.mark.parametrize(
    ("allowed", "stream", "prefer", "status"),
    [
        (("stream",), True, {}, 200),
        (("stream",), False, {}, 400),
        (("buffered",), True, {}, 400),
        (("buffered",), False, {}, 200),
        (("job",), True, {}, 400),
        (("job",), False, {}, 400),
        (("job",), True, ASYNC, 202),
        (("stream", "buffered"), False, ASYNC, 200),  # a preference that is not met is no mistake
        (("stream", "job"), False, ASYNC, 202),
    ],
)
async def test_a_route_delivers_what_it_lists(
    allowed: tuple[str, ...], stream: bool, prefer: dict[str, str], status: int
) -> None:
    async with scene(base=route(*allowed)) as on, on.ann.post(PATH, json=body(stream), headers=prefer) as reply:
        assert reply.status == status
        if status == 400:
            error = (await reply.json())["error"]
            assert (error["code"], error["param"]) == ("delivery_not_served", "stream")
            for name, word in (("stream", '"stream": true'), ("buffered", "no `stream`"), ("job", "respond-async")):
                assert (word in error["message"]) is (name in allowed), "it says what to ask instead, and nothing else"
            assert on.provider.exchanges == []


async def test_it_holds_where_the_path_says_that_it_streams_and_not_for_what_is_no_chat() -> None:
    async with scene(base=route("stream")) as on:
        async with on.ann.post("/v1beta/models/m:generateContent", json=GEMINI) as reply:
            assert reply.status == 400
        async with on.ann.post("/v1beta/models/m:streamGenerateContent", json=GEMINI) as reply:
            assert reply.status == 200
        async with on.ann.post("/v1/embeddings", json={"model": "m", "input": "x"}) as reply:
            assert "delivery_not_served" not in await reply.text()


async def test_who_is_nobody_is_told_that_first() -> None:
    async with scene(base=route("stream")) as on:
        async with on.ann.post(PATH, json=body(False), headers={"Authorization": "Bearer x"}) as reply:
            assert reply.status == 401


async def test_a_job_is_waited_for_as_long_as_the_route_says() -> None:
    async with scene(base=route(job_after=30)) as on:
        async with on.ann.post(PATH, json=body(False), headers=ASYNC) as reply:
            assert reply.status == 200, "it has ended in that time"
            assert reply.headers["Preference-Applied"] == "wait=30"
    told = Told()
    async with scene(told, base=route(job_after=0.05)) as on:
        async with on.ann.post(PATH, json=body(), headers=ASYNC) as reply:
            assert reply.status == 202
            assert reply.headers["retry-after-ms"] == "2000"
        told.go(20)
        async with on.ann.post(PATH, json=body(), headers={"Prefer": "respond-async, wait=20"}) as reply:
            assert reply.status == 200, "who says how long is waited for so long"


@pytest.mark.parametrize(
    ("said", "jobs", "word"),
    [
        ({"deliveries": ["job"]}, None, "jobs are off"),
        ({"job_after": 5}, None, "there are no jobs here"),
        ({"job_after": 5, "deliveries": ["stream"]}, {}, "there are no jobs here"),
        ({"resumable": True, "deliveries": ["buffered"]}, {}, "there are no streams here"),
        ({"resumable": True, "on_disconnect": "continue"}, None, "set `jobs`"),
    ],
)
def test_what_cannot_be_delivered_is_a_mistake_in_the_config(said: Any, jobs: Any, word: str) -> None:
    routes = [{"name": "r", "pipeline": "main", **said}]
    found = mistakes({**config("http://127.0.0.1:1"), "routes": routes, "jobs": jobs})
    assert any(word in line for line in found), found


def test_conversations_of_several_workers_are_a_mistake_in_the_config() -> None:
    routes = [{"name": "r", "pipeline": "main", "deliveries": ["socket"]}]
    found = mistakes({**config("http://127.0.0.1:1"), "routes": routes, "workers": 2})
    assert any("routes[0].deliveries" in line and "one process" in line for line in found)
