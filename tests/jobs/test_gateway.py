"""Jobs at one gateway: accepted, followed, fetched, cancelled; by their caller, and by nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.testing import Exchange
from tests.jobs.ground import (
    ANN,
    ASYNC,
    BOB,
    PATH,
    WORDS,
    Event,
    Told,
    body,
    config,
    events,
    scene,
    tells,
    text_of,
    whole,
)
from tests.relaying import ROLE, delta

TEXT = "".join(WORDS)
GEMINI = {"contents": [{"parts": [{"text": "x"}]}]}
MESSAGES = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}

EVERY: dict[str, tuple[str, dict[str, Any], str]] = {
    "chat": (PATH, body(False), '"chat.completion"'),
    "chat stream": (PATH, body(True), "data: [DONE]"),
    "responses": ("/v1/responses", {"model": "m", "input": "x"}, '"object":"response"'),
    "responses stream": ("/v1/responses", {"model": "m", "input": "x", "stream": True}, "event: response.completed"),
    "messages": ("/v1/messages", MESSAGES, '"type":"message"'),
    "messages stream": ("/v1/messages", {**MESSAGES, "stream": True}, "event: message_stop"),
    "gemini": ("/v1beta/models/m:generateContent", GEMINI, '"candidates"'),
    "gemini stream": ("/v1beta/models/m:streamGenerateContent?alt=sse", GEMINI, 'data: {"candidates"'),
    "gemini array": ("/v1beta/models/m:streamGenerateContent", GEMINI, '[{"candidates"'),
}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("name", EVERY)
async def test_every_endpoint_accepts_jobs_and_gives_their_results_in_its_dialect(name: str) -> None:
    path, asked, mark = EVERY[name]
    async with scene() as on:
        where = await on.submit(path=path, **asked)
        assert (await on.ended(where))["state"] == "completed"
        async with on.ann.get(f"{where}/result") as reply, on.ann.post(path, json=asked) as direct:
            result, said = await reply.text(), await direct.text()
            assert (reply.status, reply.content_type) == (direct.status, direct.content_type)
        assert mark in result
        assert mark in said
        assert all(f'"{word}"' in result for word in WORDS) or TEXT in result
        assert "id: 1-" not in result


async def test_what_is_accepted_says_where_it_is() -> None:
    told = Told()
    async with scene(told) as on, on.ann.post(PATH, json=body(), headers=ASYNC) as reply:
        found = await reply.json()
        assert reply.status == 202
        assert reply.headers["Location"] == f"/v1/jobs/{found['id']}" == found["links"]["self"]
        assert reply.headers["Preference-Applied"] == "respond-async"
        assert reply.headers["Retry-After"] == "2"
        assert len(found["id"]) == 32
        told.go()
        await on.ended(reply.headers["Location"])


@pytest.mark.parametrize("prefer", ["respond-async, wait=20", "wait=20,respond-async", 'respond-async; x="y", wait=20'])
async def test_what_ends_in_time_is_answered_as_if_it_were_no_job(prefer: str) -> None:
    async with scene() as on, on.ann.post(PATH, json=body(False), headers={"Prefer": prefer}) as reply:
        found = await reply.json()
        assert (reply.status, reply.headers["Preference-Applied"]) == (200, "wait=20")
        assert found["choices"][0]["message"]["content"] == TEXT
        assert reply.headers["x-sidegate-cost-nano-usd"] == "11000"
        job = await on.get(f"/v1/jobs/{reply.headers['x-sidegate-job']}")
        assert job["cost_nano_usd"] == 11000


async def test_what_does_not_end_in_time_becomes_a_job_and_does_not_start_over() -> None:
    told = Told()
    async with scene(told) as on:
        async with on.ann.post(PATH, json=body(), headers={"Prefer": "respond-async, wait=0.2"}) as reply:
            assert reply.status == 202
            assert reply.headers["Preference-Applied"] == "respond-async, wait=0.2"
        told.go()
        assert (await on.ended(reply.headers["Location"]))["state"] == "completed"
        assert len(on.provider.exchanges) == 1


@pytest.mark.parametrize("prefer", ["wait=20", "return=minimal", "respond-asynchronously", ""])
async def test_other_preferences_change_nothing(prefer: str) -> None:
    async with scene() as on, on.ann.post(PATH, json=body(), headers={"Prefer": prefer}) as reply:
        assert (reply.status, "Preference-Applied" in reply.headers) == (200, False)


async def test_without_jobs_in_the_config_the_preference_is_passed_over() -> None:
    async with scene(base={"jobs": None}) as on:
        async with on.ann.post(PATH, json=body(), headers=ASYNC) as reply:
            assert (reply.status, reply.content_type) == (200, "text/event-stream")
        async with on.ann.get("/v1/jobs") as reply:
            assert reply.status == 404


# --- who may, and what may be asked -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "headers", "status", "code"),
    [
        (body(), {"Authorization": "Bearer sg-wrong"}, 401, "invalid_api_key"),
        (body(model="unknown"), {}, 404, "model_not_found"),
        ({"model": "m"}, {}, 400, "invalid_request"),
        ({**body(), "messages": [{"role": "user", "content": 7}]}, {}, 400, "invalid_request"),
        (body(), {"Idempotency-Key": "a b"}, 400, "invalid_idempotency_key"),
        (body(), {"x-sidegate-timeouts": "never"}, 400, "invalid_timeouts"),
    ],
)
async def test_what_is_wrong_is_refused_at_once_in_the_clients_dialect(
    asked: dict[str, Any], headers: dict[str, str], status: int, code: str
) -> None:
    async with scene() as on:
        async with on.ann.post(PATH, json=asked, headers={**ASYNC, **headers}) as reply:
            assert (reply.status, (await reply.json())["error"]["code"]) == (status, code)
        assert (await on.get("/v1/jobs"))["data"] == []
        assert on.provider.exchanges == []


async def test_a_model_that_is_not_the_callers_is_no_job() -> None:
    access = {"use": "model_access", "settings": {"callers": {"ann": ["n"]}}}
    async with scene(tells, access) as on, on.ann.post(PATH, json=body(), headers=ASYNC) as reply:
        assert reply.status == 404


async def test_anothers_job_is_not_there() -> None:
    async with scene() as on, aiohttp.ClientSession(on.running.url, headers=bearer(BOB)) as bob:
        where = await on.submit()
        await on.ended(where)
        unknown = f"/v1/jobs/{'0' * 32}"
        for method, rest in (("GET", ""), ("GET", "/result"), ("GET", "/events"), ("DELETE", ""), ("POST", "/ticket")):
            said = []
            for path in (where, unknown):
                async with bob.request(method, path + rest) as reply:
                    problem = await reply.json()
                    assert reply.status == 404, (method, rest)
                    assert reply.content_type == "application/problem+json"
                    said.append({**problem, "request_id": ""})
            assert said[0] == said[1]
        async with bob.get("/v1/jobs") as reply:
            assert (await reply.json())["data"] == []
        async with bob.get(f"/v1/jobs?after={where[-32:]}") as reply:
            assert (await reply.json())["data"] == []
        assert [job["id"] for job in (await on.get("/v1/jobs"))["data"]] == [where[-32:]]


async def test_no_credential_is_kept() -> None:
    headers = {"x-goog-api-key": ANN, "Cookie": "secret=1", "x-mine": "kept", "User-Agent": "test"}
    async with scene(tells, headers=["X-Mine"]) as on:
        where = await on.submit(headers=headers)
        jobs = on.running.service.jobs
        assert jobs is not None
        found = await jobs.store.submission(where[-32:])
        assert found is not None
        kept = msgspec.json.decode(found[0])
        assert kept["headers"] == {"user-agent": "test", "x-mine": "kept"}
        assert ANN not in found[0].decode()
        assert kept["caller"]["name"] == "ann"
        assert (await on.ended(where))["state"] == "completed"


def test_a_header_that_bears_a_credential_cannot_be_kept() -> None:
    from tests.test_config import mistakes

    (line,) = mistakes(config("http://127.0.0.1:1", headers=["Authorization"]))
    assert "bears a credential" in line


async def test_jobs_need_somewhere_to_be_kept() -> None:
    from tests.test_config import mistakes

    assert any("ledger" in line for line in mistakes({**config("http://127.0.0.1:1"), "ledger": {"url": ""}}))


async def test_what_is_sent_twice_with_a_key_is_one_job() -> None:
    async with scene() as on:
        key = {"Idempotency-Key": "once"}
        first = await on.submit(headers=key)
        assert await on.submit(headers=key) == first
        await on.ended(first)
        assert await on.submit(headers=key) == first, "also when it has ended"
        async with on.ann.post(PATH, json=body(content="other"), headers={**ASYNC, **key}) as reply:
            assert (reply.status, (await reply.json())["error"]["code"]) == (422, "idempotency_key_reused")
        async with aiohttp.ClientSession(on.running.url, headers=bearer(BOB)) as bob:
            async with bob.post(PATH, json=body(content="other"), headers={**ASYNC, **key}) as reply:
                assert (reply.status, reply.headers["Location"] != first) == (202, True)
        assert len(await jobs_of(on.ann)) == 1


async def jobs_of(client: aiohttp.ClientSession) -> list[Any]:
    async with client.get("/v1/jobs") as reply:
        found: list[Any] = (await reply.json())["data"]
        return found


async def test_a_caller_has_no_more_waiting_than_it_may() -> None:
    told = Told()
    async with scene(told, concurrency=1, max_queued=1) as on:
        first = await on.submit()
        await told.asked.wait()
        await on.submit()
        async with on.ann.post(PATH, json=body(), headers=ASYNC) as reply:
            assert (reply.status, (await reply.json())["error"]["code"]) == (429, "too_many_jobs")
        async with on.ann.delete(first):
            pass
        for job in await jobs_of(on.ann):
            async with on.ann.delete(f"/v1/jobs/{job['id']}"):
                pass


# --- while it runs ----------------------------------------------------------------------------------------------------


async def test_a_job_shows_how_far_it_is_and_what_it_has_cost() -> None:
    told = Told()
    async with scene(told) as on:
        where = await on.submit()
        told.go(2)
        async with asyncio.timeout(10):
            while (found := await on.get(where))["progress"]["events"] < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (found["state"], found["generation"]) == ("running", 1)
        assert found["progress"]["output_tokens"] > 0
        assert found["progress"]["estimated"] is True
        assert found["cost_nano_usd"] > 0
        async with on.ann.get(f"{where}/result") as reply:
            assert (reply.status, (await reply.json())["code"]) == (409, "job_not_ended")
            assert reply.headers["Retry-After"] == "2"
        told.go()
        found = await on.ended(where)
        (run,) = found["runs"]
        call = await on.get(f"/v1/calls/{run['call']}")
        assert (call["delivery"], call["caller"], call["ending"]) == ("job", "ann", "complete")
        assert call["cost_nano_usd"] == found["cost_nano_usd"] == run["cost_nano_usd"]


async def test_readers_see_the_same_events_whenever_they_come() -> None:
    told = Told()
    async with scene(told) as on:
        where = await on.submit()
        early = asyncio.create_task(read(on.ann, where))
        await told.asked.wait()
        told.go(2)
        middle = asyncio.create_task(read(on.ann, where))
        told.go()
        await on.ended(where)
        late = await read(on.ann, where)
        assert await early == await middle == late
    found = events(late)
    assert text_of(found) == TEXT
    assert numbers(found) == list(range(1, len(found) + 1))
    assert "\n: sidegate cost_usd=" in late, "a comment is a line of the event behind it"
    assert found[-1].kind == "end"
    assert msgspec.json.decode(found[-1].data)["state"] == "completed"


def numbers(found: list[Event]) -> list[int]:
    """Of the first generation."""
    pairs = [one.id.split("-") for one in found]
    assert {generation for generation, _ in pairs} == {"1"}
    return [int(number) for _, number in pairs]


async def read(client: aiohttp.ClientSession, where: str, seen: str = "") -> str:
    async with client.get(f"{where}/events", headers={"Last-Event-ID": seen} if seen else {}) as reply:
        assert reply.status == 200, await reply.text()
        return await reply.text()


async def test_a_reader_goes_on_where_it_was() -> None:
    async with scene() as on:
        where = await on.submit()
        await on.ended(where)
        every = events(await read(on.ann, where))
        for number, one in enumerate(every[:-1], 1):
            assert events(await read(on.ann, where, one.id)) == every[number:]
        async with on.ann.get(f"{where}/events", headers={"Last-Event-ID": every[-1].id}) as reply:
            assert reply.status == 204, "a browser that has seen the end does not come again"


@pytest.mark.parametrize("seen", ["2-1", "1-99", "0-7", "junk", "1-99999999999999999999", "-1--1"])
async def test_who_has_seen_what_is_not_there_starts_anew(seen: str) -> None:
    async with scene() as on:
        where = await on.submit()
        await on.ended(where)
        first, *rest = events(await read(on.ann, where, seen))
        assert (first.kind, first.id) == ("reset", "1-0")
        assert rest == events(await read(on.ann, where))


async def test_a_reader_that_leaves_stops_nothing() -> None:
    told = Told()
    async with scene(told) as on:
        where = await on.submit()
        async with on.ann.get(f"{where}/events") as reply:
            await reply.content.readany()
        told.go()
        assert (await on.ended(where))["state"] == "completed"


async def test_an_id_that_the_provider_gives_its_events_is_left_out() -> None:
    async def names(exchange: Exchange) -> None:
        pieces = [b"id: 99\r\nretry: 1\r\n" + piece.replace(b"\n", b"\r\n") for piece in (ROLE, delta(content="x"))]
        await exchange.stream(*pieces, b"id: 1-1\ndata: [DONE]\n\n")

    async with scene(names) as on:
        where = await on.submit()
        await on.ended(where)
        found = events(await read(on.ann, where))
        assert numbers(found) == list(range(1, len(found) + 1))


async def test_a_job_that_is_no_stream_has_one_event_with_its_body() -> None:
    async def pretty(exchange: Exchange) -> None:
        await exchange.reply(msgspec.json.format(whole(TEXT), indent=2).replace(b"\n", b"\r\n"))

    async with scene(pretty) as on:
        where = await on.submit(**body(False))
        await on.ended(where)
        result, end = events(await read(on.ann, where))
        assert (result.kind, end.kind) == ("result", "end")
        assert msgspec.json.decode(result.data)["choices"][0]["message"]["content"] == TEXT
        async with on.ann.get(f"{where}/result") as reply:
            assert (await reply.json())["choices"][0]["message"]["content"] == TEXT


# --- tickets ----------------------------------------------------------------------------------------------------------


async def test_a_ticket_opens_the_events_of_its_job_and_nothing_else() -> None:
    async with scene() as on, aiohttp.ClientSession(on.running.url) as page:
        where, other = await on.submit(), await on.submit()
        await on.ended(where)
        await on.ended(other)
        async with on.ann.post(f"{where}/ticket") as reply:
            assert (reply.status, reply.headers["Cache-Control"]) == (201, "no-store")
            ticket = await reply.json()
        async with page.get(ticket["events"]) as reply:
            assert text_of(events(await reply.text())) == TEXT
        async with page.get(ticket["events"], headers={"Last-Event-ID": "1-2"}) as reply:
            assert events(await reply.text())[0].id == "1-3"
        for path in (f"{other}/events", where, f"{where}/result", "/v1/jobs"):
            async with page.get(f"{path}?ticket={ticket['ticket']}") as reply:
                assert reply.status == 401, path
        for wrong in ("", "x", ticket["ticket"][:-1], "x" * 5000):
            async with page.get(f"{where}/events?ticket={wrong}") as reply:
                assert (reply.status, (await reply.json())["code"]) == (401, "invalid_ticket")


async def test_a_ticket_is_of_no_use_after_its_time() -> None:
    async with scene(tells, ticket_seconds=1) as on, aiohttp.ClientSession(on.running.url) as page:
        where = await on.submit()
        await on.ended(where)
        async with on.ann.post(f"{where}/ticket") as reply:
            ticket = await reply.json()
        await asyncio.sleep(1.1)
        async with page.get(ticket["events"]) as reply:
            assert reply.status == 401


# --- how it ends ------------------------------------------------------------------------------------------------------


async def test_a_job_is_cancelled_in_mid_reply_and_its_provider_let_go() -> None:
    told = Told()
    async with scene(told) as on:
        where = await on.submit()
        reader = asyncio.create_task(read(on.ann, where))
        told.go(2)
        async with asyncio.timeout(10):
            while (await on.get(where))["progress"]["events"] < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with on.ann.delete(where) as reply:
            found = await reply.json()
        assert (reply.status, found["state"], found["status"]) == (200, "cancelled", 499)
        await asyncio.wait_for(on.provider.exchanges[0].closed.wait(), 5)
        seen = events(await reader)
        assert text_of([one for one in seen if '"error"' not in one.data]) == "".join(WORDS[:2])
        assert seen[-1].kind == "end"
        async with on.ann.delete(where) as reply:
            assert (await reply.json())["state"] == "cancelled", "cancelling it again changes nothing"


async def test_a_job_that_waits_is_cancelled_and_never_runs() -> None:
    told = Told()
    async with scene(told, concurrency=1) as on:
        first = await on.submit()
        await told.asked.wait()
        second = await on.submit()
        async with on.ann.delete(second) as reply:
            assert (await reply.json())["state"] == "cancelled"
        async with on.ann.get(f"{second}/result") as reply:
            assert (reply.status, (await reply.json())["error"]["code"]) == (499, "cancelled")
        told.go()
        await on.ended(first)
        assert len(on.provider.exchanges) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_before_the_first_word_is_the_results_status(stream: bool) -> None:
    async def fails(exchange: Exchange) -> None:
        await exchange.reply(b'{"error": {"message": "no"}}', 429, Retry_After="7")

    async with scene(fails) as on:
        where = await on.submit(**body(stream))
        found = await on.ended(where)
        assert (found["state"], found["status"], found["error"]["code"]) == ("failed", 429, "rate_limit_exceeded")
        async with on.ann.get(f"{where}/result") as reply, on.ann.post(PATH, json=body(stream)) as direct:
            assert reply.status == direct.status == 429
            assert await reply.json() == await direct.json()
            assert reply.headers["Retry-After"] == "7"


async def test_a_failure_in_mid_stream_is_in_the_result_as_it_would_be_in_the_stream() -> None:
    async def breaks(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="Once"))
        exchange.reset()

    async with scene(breaks) as on:
        where = await on.submit()
        assert (await on.ended(where))["error"]["code"] == "provider_cut"
        async with on.ann.get(f"{where}/result") as reply:
            said = await reply.text()
        assert reply.status == 200
        assert "Once" in said
        assert "provider_cut" in said.split("\n\n")[-2]
        assert "[DONE]" not in said


async def test_a_reply_that_is_too_large_is_a_failure() -> None:
    async def talks(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        for _ in range(200):
            await exchange.chunk(delta(content="x" * 100))

    async with scene(talks, max_result_bytes=4096) as on:
        found = await on.ended(await on.submit())
        assert (found["state"], found["error"]["code"]) == ("failed", "reply_too_large")


async def test_a_job_whose_time_is_over_is_stopped() -> None:
    async with scene(Told(), time_to_live=1) as on:
        found = await on.ended(await on.submit())
        assert (found["state"], found["status"], found["error"]["code"]) == ("expired", 504, "job_expired")
        await asyncio.wait_for(on.provider.exchanges[0].closed.wait(), 5)


async def test_what_was_kept_for_its_time_is_gone() -> None:
    async with scene(tells, keep=1) as on:
        where = await on.submit()
        await on.ended(where)
        jobs = on.running.service.jobs
        assert jobs is not None
        await jobs.store.remove("2999", "2999")
        for rest in ("", "/result", "/events"):
            async with on.ann.get(where + rest) as reply:
                assert (reply.status, (await reply.json())["code"]) == (410, "job_gone")
        assert await jobs_of(on.ann) == []


# --- limits, when it runs ---------------------------------------------------------------------------------------------


async def test_a_limit_that_has_no_room_puts_a_job_off_and_does_not_fail_it() -> None:
    limit = {"use": "rate_limit", "settings": {"limits": [{"name": "a", "requests": 1, "period": "second"}]}}
    async with scene(tells, limit) as on:
        first, second = await on.submit(), await on.submit()
        for where in (first, second):
            found = await on.ended(where)
            assert (found["state"], found["generation"], len(found["runs"])) == ("completed", 1, 1)
        assert len(on.provider.exchanges) == 2


async def test_a_budget_that_is_used_up_fails_a_job_that_would_wait_in_vain() -> None:
    async with scene(base={"pipelines": {"main": {"plugins": [*budget()]}}}) as on:
        found = await on.ended(await on.submit())
        assert (found["state"], found["status"]) == ("failed", 429)
        assert on.provider.exchanges == []


def budget() -> list[dict[str, Any]]:
    limits = [{"name": "all", "amount_usd": "0.000000001", "period": "month"}]
    settings = {"prices": {"*": {"input": 1, "output": 2}}, "budgets": limits}
    return [*config("")["pipelines"]["main"]["plugins"][:1], {"use": "cost", "settings": settings}]


@pytest.mark.parametrize("bound", ["per_caller", "per_model"])
async def test_no_more_run_at_a_time_than_may(bound: str) -> None:
    told = Told()
    bounds: dict[str, Any] = {bound: 1}
    async with scene(told, **bounds) as on:
        first, second = await on.submit(), await on.submit()
        await told.asked.wait()
        other = await on.submit(**body(model="n"))
        expected = {"per_caller": "queued", "per_model": "running"}[bound]
        await on.until(other, expected)
        assert (await on.get(second))["state"] == "queued"
        for _ in range(3):
            told.go()
        for where in (first, second, other):
            assert (await on.ended(where))["state"] == "completed"


async def test_the_most_urgent_goes_first_as_far_as_it_may() -> None:
    told = Told()
    async with scene(told, concurrency=1, most_urgent=2) as on:
        await on.submit()
        await told.asked.wait()
        usual = await on.submit(**body(content="usual"))
        urgent = await on.submit(**body(content="urgent"), headers={"Priority": "u=0, i"})
        assert (await on.get(urgent))["urgency"] == 2
        for _ in range(3):
            told.go()
        await on.ended(usual)
        await on.ended(urgent)
        asked = [exchange.json["messages"][0]["content"] for exchange in on.provider.exchanges]
        assert asked == ["x", "urgent", "usual"]


# --- the gateway stops ------------------------------------------------------------------------------------------------


async def test_a_drain_lets_a_job_finish() -> None:
    told = Told()
    async with scene(told) as on:
        where = await on.submit()
        await told.asked.wait()
        async with on.ann.get(f"{where}/events") as reply:
            stopping = asyncio.create_task(on.running.service.live.drain(20))
            await asyncio.sleep(0)
            told.go()
            assert text_of(events(await reply.text())) == TEXT
        assert await stopping == 0


async def test_what_a_drain_cannot_finish_is_put_back_and_its_readers_go() -> None:
    told = Told()
    async with scene(told, concurrency=1) as on:
        running, waiting = await on.submit(), await on.submit()
        await told.asked.wait()
        told.go(1)
        async with on.ann.get(f"{running}/events") as one, on.ann.get(f"{waiting}/events") as other:
            stopping = asyncio.create_task(on.running.service.live.drain(1))
            assert events(await other.text()) == [], "nothing happens to it here, so its reader is let go at once"
            assert not stopping.done()
            assert await stopping >= 1
            assert all(event.kind != "end" for event in events(await one.text()))
        jobs = on.running.service.jobs
        assert jobs is not None
        async with asyncio.timeout(10):
            while len(jobs.worker):  # noqa: ASYNC110  # another task's doing
                await asyncio.sleep(0.01)
        for where in (running, waiting):
            found = await jobs.store.get(where[-32:])
            assert found is not None
            assert (found.state, found.kills) == ("queued", 0)
        (run,) = await jobs.store.runs(running[-32:])
        assert run.ending == "gateway_stopping"
        recorded = await on.running.service.ledger.call(run.call)
        assert recorded is not None
        assert run.cost_nano_usd == recorded[0].cost_nano_usd is not None
