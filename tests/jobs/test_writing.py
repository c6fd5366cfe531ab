"""What jobs came to is made durable for all at once: one that cannot be kept keeps no other from it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from sidegate.contract import Call, Handler, Plugin, Reply
from sidegate.errors import Refusal
from sidegate.jobs import sql_work
from sidegate.jobs.job import Batch, Outcome
from sidegate.ledger.database import Database, Unfit
from sidegate.testing import Exchange
from tests.jobs.ground import ANN, PATH, body, events, scene, tells
from tests.relaying import ROLE, delta, event

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])


class Odd(Plugin[None]):
    """Says what the client asks it to, in words that are no Unicode and numbers that are none."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        # A job's submission passes the pipeline, too.
        asked = bytes(call.asked.body) if call.operation == "chat" else b""
        headers: dict[Any, Any] = call.reply_headers
        if b"a header" in asked:
            headers |= {"x-echo": "caf\udce9", "x-number": 5, "x-poison": "yes"}
        if b"an error" in asked:
            raise Refusal(400, "odd", "You said caf\udce9.", retry_after=float("inf"))
        if b"a parameter" in asked:
            error = Refusal(400, "odd", "No.", retry_after=float("nan"))
            error.param = 7  # type: ignore[assignment]
            raise error
        return await handler(call)


ODD = {"use": "tests.jobs.test_writing:Odd"}


@both
@pytest.mark.parametrize(("said", "status"), [("a header", 200), ("an error", 400), ("a parameter", 400)])
async def test_the_odd_words_of_a_plugin_keep_no_job_from_its_end(said: str, status: int, stream: bool) -> None:
    async with scene(tells, ODD) as on:
        odd = await on.ended(await on.submit(**body(stream, said)))
        assert (odd["state"], odd["status"]) == ("completed" if status == 200 else "failed", status)
        assert (await on.ended(await on.submit(**body(stream, "fine"))))["state"] == "completed"


@both
async def test_an_end_that_no_store_can_take_is_told_as_that_and_others_are_kept(
    stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = sql_work.finish

    def refuses(database: Database, *, ends: Sequence[tuple[Batch, Outcome]], **rest: Any) -> set[tuple[str, int]]:
        if any("x-poison" in outcome.headers for _, outcome in ends):
            raise Unfit("no such text")
        return finish(database, ends=ends, **rest)

    monkeypatch.setattr(sql_work, "finish", refuses)
    async with scene(tells, ODD) as on:
        places = [await on.submit(**body(stream, said)) for said in ("fine", "a header", "fine")]
        jobs = [await on.ended(place) for place in places]
        assert [job["state"] for job in jobs] == ["completed", "failed", "completed"]
        assert jobs[1]["error"]["code"] == "job_unkept"


async def test_what_a_job_says_that_no_store_can_take_ends_that_job_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    save = sql_work.save

    def refuses(database: Database, *, batches: Sequence[Batch], **rest: Any) -> set[tuple[str, int]]:
        if any(b"poison" in batch.data for batch in batches):
            raise Unfit("no such bytes")
        return save(database, batches=batches, **rest)

    monkeypatch.setattr(sql_work, "save", refuses)

    async def says(exchange: Exchange) -> None:
        if b"poison" not in exchange.body:
            await tells(exchange)
            return
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="poison"))
        await exchange.closed.wait()

    async with scene(says) as on:
        places = [await on.submit(**body(True, said)) for said in ("poison", "fine")]
        jobs = [await on.ended(place) for place in places]
        assert [job["state"] for job in jobs] == ["failed", "completed"]
        assert jobs[0]["error"]["code"] == "job_unkept"


async def test_a_header_that_is_no_text_keeps_no_job_from_being_accepted() -> None:
    async with scene(tells) as on:
        url = on.running.url.removeprefix("http://")
        host, _, port = url.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        sent = json.dumps(body(False)).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {ANN}\r\nPrefer: respond-async\r\n"
        more = f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\nConnection: close\r\n"
        writer.write(f"{head}{more}".encode() + b"User-Agent: caf\xe9\r\n\r\n" + sent)
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 202 "), answer
        place = next(line for line in answer.decode().split("\r\n") if line.startswith("Location: "))
        assert (await on.ended(place.removeprefix("Location: ")))["state"] == "completed"


async def test_a_page_of_absurd_length_is_a_400() -> None:
    async with scene(tells) as on, on.ann.get(f"/v1/jobs?limit={'9' * 5000}") as reply:
        assert (reply.status, (await reply.json())["code"]) == (400, "invalid_request")


async def test_an_error_that_ends_a_translated_job_has_the_next_number() -> None:
    async def fails(exchange: Exchange) -> None:
        await exchange.stream(
            ROLE, delta(content="Once"), event({"error": {"message": "No more.", "type": "server_error"}})
        )

    async with scene(fails) as on:
        place = await on.submit(path="/v1/responses", model="m", input="x", stream=True)
        assert (await on.ended(place))["state"] == "failed"
        async with on.ann.get(f"{place}/result") as reply:
            numbers = [json.loads(one.data)["sequence_number"] for one in events(await reply.text())]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 2
