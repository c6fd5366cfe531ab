"""Responses that a provider keeps, by OpenAI's own client: fetched, followed, cancelled, deleted, by whose they are."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import urllib.request
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import openai
import pytest
from msgspec import structs

from sidegate.contract import Call, Chunk, Ending, Handler, Plugin, Reply, Text
from sidegate.testing import Exchange, Running
from tests.relaying import event
from tests.sdk.ground import Ground

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 2,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 9,
}


def response(id: str, text: str = "Hello", status: str = "completed", **more: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    over = status == "completed"
    return {
        "id": id,
        "object": "response",
        "created_at": 1,
        "model": "real-1",
        "status": status,
        "output": [item] if over else [],
        "usage": USAGE if over else None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "a_field_of_tomorrow": [1],
        **more,
    }


def events(id: str, text: str = "Hello", after: int = -1) -> list[bytes]:
    """A stream of a response, from behind an event on."""
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    said: list[dict[str, Any]] = [
        {"type": "response.created", "response": response(id, status="in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": part},
        *({"type": "response.output_text.delta", **place, "delta": letter, "logprobs": []} for letter in text),
        {"type": "response.completed", "response": response(id, text)},
    ]
    numbered = [{**one, "sequence_number": number} for number, one in enumerate(said)]
    return [event(one, one["type"]) for one in numbered if one["sequence_number"] > after]


class Vendor:
    """A provider that keeps what it says, for one account."""

    def __init__(self, prefix: str = "resp_") -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str, str]] = []
        """Method, path with query, and key of all requests for what is kept."""
        self.prefix = prefix
        self.under_way: list[Exchange] = []
        self.keys: list[str] = []

    async def __call__(self, exchange: Exchange) -> None:
        path = urlsplit(exchange.path).path
        key = exchange.headers["authorization"].removeprefix("Bearer ")
        if path.endswith("/responses"):
            await self._make(exchange, key)
            return
        self.asked.append((exchange.method, exchange.path, key))
        found = re.fullmatch(r".*/responses/([^/]+)(/[a-z_]+)?", path)
        assert found is not None, path
        id, below = found.groups()
        if id not in self.kept:
            await exchange.reply(b'{"error": {"message": "No such response at the vendor."}}', 404)
        elif exchange.method == "DELETE":
            del self.kept[id]
            await exchange.reply(json.dumps({"id": id, "object": "response", "deleted": True}).encode())
        elif below == "/input_items":
            items = [{"id": "msg_0", "type": "message", "role": "user", "status": "completed", "content": []}]
            listed = {"object": "list", "data": items, "first_id": "msg_0", "last_id": "msg_0", "has_more": False}
            await exchange.reply(json.dumps(listed).encode())
        elif below == "/cancel":
            self.kept[id] = response(id, status="cancelled")
            await exchange.reply(json.dumps(self.kept[id]).encode())
        elif (query := parse_qs(urlsplit(exchange.path).query)).get("stream") == ["true"]:
            await exchange.stream(*events(id, after=int(query.get("starting_after", ["-1"])[0])))
        else:
            await exchange.reply(json.dumps(self.kept[id]).encode())

    async def _make(self, exchange: Exchange, key: str) -> None:
        asked = exchange.json
        self.keys.append(key)
        id = f"{self.prefix}{len(self.keys)}"
        background = bool(asked.get("background"))
        self.kept[id] = response(id, status="queued" if background else "completed")
        if asked.get("stream") and background:
            # It says a word, and goes on by itself when nobody listens.
            self.under_way.append(exchange)
            await exchange.head(Transfer_Encoding="chunked")
            await exchange.chunk(b"".join(events(id)[:4]))
            await exchange.closed.wait()
        elif asked.get("stream"):
            await exchange.stream(*events(id))
        else:
            await exchange.reply(json.dumps(self.kept[id]).encode())


def config(ground: Ground, *vendors: Vendor, **more: Any) -> dict[str, Any]:
    providers = {
        f"p{number}": {
            "dialect": "openai_responses",
            "base_url": ground.provider(vendor).url,
            "api_keys": ["key-one", "key-two"],
        }
        for number, vendor in enumerate(vendors)
    }
    names = [
        {"name": name, "digest": "sha256:" + sha256(f"{name}-key".encode()).hexdigest()} for name in ("ann", "bob")
    ]
    models: dict[str, Any] = {"m": [{"provider": name, "model": "real"} for name in providers]}
    models |= {f"only-{name}": {"provider": name, "model": "real"} for name in providers}
    return {
        "providers": providers,
        "models": models,
        "pipelines": {"main": {"plugins": [{"use": "log"}, {"use": "api_key", "settings": {"keys": names}}]}},
        "server": {"drain": 1},
        **more,
    }


class Shout(Plugin[None]):
    async def __call__(self, call: Call, handler: Handler) -> Reply:
        call.change(Louder())
        return await handler(call)


class Louder:
    def see(self, chunk: Chunk) -> tuple[Chunk, ...]:
        parts = [structs.replace(part, text=part.text.upper()) if type(part) is Text else part for part in chunk.parts]
        return (Chunk.of(*parts),) if any(type(part) is Text for part in chunk.parts) else (chunk,)

    def end(self, ending: Ending) -> tuple[Chunk, ...]:
        return ()


def settle(ground: Ground, running: Running) -> None:
    """Let everything that waits be written."""

    async def written() -> None:
        service = running.service
        for live in service.live.all():
            await asyncio.wait_for(asyncio.shield(live.done), 5)
        await service.ledger.flush()
        service.responses.tick()
        if service.responses._flushing is not None:
            await service.responses._flushing

    ground.do(written())


def record(ground: Ground, running: Running, call: str) -> Any:
    settle(ground, running)
    asked = urllib.request.Request(f"{running.url}/v1/calls/{call}", headers={"Authorization": "Bearer ann-key"})
    with urllib.request.urlopen(asked, timeout=10) as reply:  # our own loopback URL
        return json.load(reply)


def spending(path: Path) -> tuple[int, bool]:
    """What the budget has spent, and whether it holds something."""
    with closing(sqlite3.connect(path)) as ledger:
        spent, held = ledger.execute("SELECT sum(spent), sum(held) FROM budgets").fetchone()
    return spent, held > 0


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


def made(client: Any, stream: bool, **more: Any) -> str:
    """The id of a response that was just made."""
    if not stream:
        return str(client.responses.create(model="m", input="Hi", **more).id)
    ids = {
        one.response.id
        for one in client.responses.create(model="m", input="Hi", stream=True, **more)
        if hasattr(one, "response")
    }
    (id,) = ids
    return str(id)


@both
def test_the_caller_it_was_made_for_fetches_and_deletes_it(
    ground: Ground, openai_at: Any, vendor: Vendor, stream: bool
) -> None:
    running = ground.gateway(config(ground, vendor))
    ann = openai_at(running, api_key="ann-key")
    id = made(ann, stream)
    fetched = ann.responses.retrieve(id)
    assert (fetched.id, fetched.output_text, fetched.usage.total_tokens) == (id, "Hello", 9)
    assert fetched.a_field_of_tomorrow == [1]
    assert [item.id for item in ann.responses.input_items.list(id, limit=5, order="asc")] == ["msg_0"]
    assert ann.responses.delete(id) is None
    with pytest.raises(openai.NotFoundError) as caught:
        ann.responses.retrieve(id)
    assert caught.value.code == "response_not_found"
    methods = [(method, path) for method, path, _ in vendor.asked]
    assert methods == [
        ("GET", f"/responses/{id}"),
        ("GET", f"/responses/{id}/input_items?limit=5&order=asc"),
        ("DELETE", f"/responses/{id}"),
    ]
    assert {key for _, _, key in vendor.asked} == set(vendor.keys), "the key that it was made with"
    lines = running.log.events("call")
    assert [line["operation"] for line in lines][1:4] == ["get_response", "list_input_items", "delete_response"]
    assert {(line["caller"], line["model"], line["provider"]) for line in lines[:4]} == {("ann", "m", "p0")}
    assert [line["input_tokens"] for line in lines[:4]] == [7, 0, 0, 0], "fetching costs nothing"


@both
def test_anothers_response_is_not_there(ground: Ground, openai_at: Any, vendor: Vendor, stream: bool) -> None:
    running = ground.gateway(config(ground, vendor))
    id = made(openai_at(running, api_key="ann-key"), stream)
    bob = openai_at(running, api_key="bob-key")
    asks: list[Callable[[str], Any]] = [
        bob.responses.retrieve,
        bob.responses.delete,
        bob.responses.cancel,
        lambda id: list(bob.responses.input_items.list(id)),
    ]
    for ask in asks:
        with pytest.raises(openai.NotFoundError) as caught:
            ask(id)
        assert (caught.value.code, caught.value.type) == ("response_not_found", "not_found_error")
        assert f"Response with id '{id}' not found." in caught.value.message
    with pytest.raises(openai.BadRequestError) as refused:
        bob.responses.create(model="m", input="Hi", previous_response_id=id, stream=stream)
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")
    assert (vendor.asked, len(vendor.keys)) == ([], 1)


def test_a_stream_is_followed_from_where_it_was_left(ground: Ground, openai_at: Any, vendor: Vendor) -> None:
    running = ground.gateway(config(ground, vendor))
    ann = openai_at(running, api_key="ann-key")
    id = made(ann, True)
    rest = list(ann.responses.retrieve(id, stream=True, starting_after=4))
    assert [one.sequence_number for one in rest] == [5, 6, 7, 8]
    assert rest[-1].response.output_text == "Hello"
    assert running.log.events("call")[-1]["delivery"] == "stream"


@both
def test_what_goes_on_from_it_goes_to_its_provider_with_its_key(ground: Ground, openai_at: Any, stream: bool) -> None:
    first, second = Vendor("resp_a"), Vendor("resp_b")
    running = ground.gateway(config(ground, first, second))
    ann = openai_at(running, api_key="ann-key")
    id = made_by(ann, "only-p1", stream)
    for _ in range(3):
        ann.responses.create(model="m", input="Go on", previous_response_id=id)
    assert (first.keys, len(second.keys), len(set(second.keys))) == ([], 4, 1)
    with pytest.raises(openai.BadRequestError) as caught:
        ann.responses.create(model="only-p0", input="Go on", previous_response_id=id)
    assert caught.value.code == "previous_response_elsewhere"
    assert first.keys == []


def made_by(client: Any, model: str, stream: bool) -> str:
    if not stream:
        return str(client.responses.create(model=model, input="Hi").id)
    return str(list(client.responses.create(model=model, input="Hi", stream=True))[-1].response.id)


def test_what_nobody_has_made_here_is_refused_or_passes_as_the_config_says(
    ground: Ground, openai_at: Any, vendor: Vendor
) -> None:
    strict = openai_at(ground.gateway(config(ground, vendor)), api_key="ann-key")
    for field in ({"previous_response_id": "resp_x"}, {"conversation": "conv_x"}):
        with pytest.raises(openai.BadRequestError) as caught:
            strict.responses.create(model="m", input="Hi", **field)
        assert caught.value.param in field
    assert vendor.keys == []
    running = ground.gateway(config(ground, vendor, server={"drain": 1, "unknown_responses": "pass"}))
    ann, bob = openai_at(running, api_key="ann-key"), openai_at(running, api_key="bob-key")
    for field in ({"previous_response_id": "resp_x"}, {"conversation": "conv_x"}):
        assert ann.responses.create(model="m", input="Hi", **field).status == "completed"
    id = made(ann, False)
    with pytest.raises(openai.BadRequestError):
        bob.responses.create(model="m", input="Hi", previous_response_id=id)


def test_what_is_not_to_be_kept_is_not_known(ground: Ground, openai_at: Any, vendor: Vendor) -> None:
    running = ground.gateway(config(ground, vendor))
    ann = openai_at(running, api_key="ann-key")
    with pytest.raises(openai.NotFoundError):
        ann.responses.retrieve(made(ann, False, store=False))


@pytest.mark.parametrize("ledger", ["file", "none"])
def test_it_is_known_after_a_restart_where_there_is_a_ledger(
    ground: Ground, openai_at: Any, vendor: Vendor, ledger: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db" if ledger == "file" else ""
    kept = config(ground, vendor, ledger={"url": url})
    running = ground.gateway(kept)
    id = made(openai_at(running, api_key="ann-key"), True)
    ground.do(running.gateway.stop())
    again = openai_at(ground.gateway(kept), api_key="ann-key")
    if ledger == "file":
        assert again.responses.retrieve(id).output_text == "Hello"
        return
    with pytest.raises(openai.NotFoundError):
        again.responses.retrieve(id)


def test_a_provider_that_is_asked_no_longer_is_said_to_be_gone(
    ground: Ground, openai_at: Any, vendor: Vendor, tmp_path: Path
) -> None:
    ledger = {"url": f"sqlite:///{tmp_path}/ledger.db"}
    running = ground.gateway(config(ground, vendor, ledger=ledger))
    id = made(openai_at(running, api_key="ann-key"), False)
    ground.do(running.gateway.stop())
    changed = config(ground, vendor, ledger=ledger)
    changed["providers"] = {"other": changed["providers"]["p0"]}
    changed["models"] = {"m": {"provider": "other"}}
    with pytest.raises(openai.APIStatusError) as caught:
        openai_at(ground.gateway(changed), api_key="ann-key").responses.retrieve(id)
    assert (caught.value.status_code, caught.value.code) == (410, "response_gone")


def test_an_edit_holds_in_what_is_fetched_too(ground: Ground, openai_at: Any, vendor: Vendor) -> None:
    shouting = config(ground, vendor)
    shouting["pipelines"]["main"]["plugins"].append({"use": "tests.sdk.test_kept_responses:Shout"})
    running = ground.gateway(shouting)
    ann = openai_at(running, api_key="ann-key")
    id = made(ann, False)
    assert ann.responses.retrieve(id).output_text == "HELLO"
    streamed = list(ann.responses.retrieve(id, stream=True))
    assert streamed[-1].response.output_text == "HELLO"


@both
def test_another_gateway_of_the_ledger_knows_it_too(
    ground: Ground, openai_at: Any, vendor: Vendor, stream: bool, tmp_path: Path
) -> None:
    kept = config(ground, vendor, ledger={"url": f"sqlite:///{tmp_path}/ledger.db"})
    here, there = (openai_at(ground.gateway(kept), api_key="ann-key") for _ in range(2))
    id = made(here, stream)
    # At once: what is not written yet is waited for.
    assert there.responses.create(model="m", input="Go on", previous_response_id=id).status == "completed"
    assert there.responses.retrieve(id).output_text == "Hello"


# --- in the background ------------------------------------------------------------------------------------------------


def test_what_went_on_in_the_background_is_charged_once_to_the_call_that_made_it(
    ground: Ground, openai_at: Any, vendor: Vendor, tmp_path: Path
) -> None:
    prices = {"real": {"input": 1, "output": 10}}
    kept = config(ground, vendor, ledger={"url": f"sqlite:///{tmp_path}/ledger.db"})
    budgets = [{"name": "b", "amount_usd": 1, "period": "month"}]
    cost = {"use": "cost", "settings": {"prices": prices, "budgets": budgets}}
    kept["pipelines"]["main"]["plugins"].append(cost)
    running = ground.gateway(kept)
    ann = openai_at(running, api_key="ann-key")
    raw = ann.responses.with_raw_response.create(model="m", input="Hi", background=True)
    id, call = raw.parse().id, raw.headers["x-request-id"]
    found = record(ground, running, call)
    assert (found["state"], found["output_tokens"], found["cost_nano_usd"]) == ("unknown", None, None)
    assert ann.responses.retrieve(id).status == "queued"
    assert spending(tmp_path / "ledger.db") == (0, True)
    vendor.kept[id] = response(id)
    for _ in range(3):
        assert ann.responses.retrieve(id).status == "completed"
    settle(ground, running)
    found = record(ground, running, call)
    assert (found["state"], found["input_tokens"], found["output_tokens"]) == ("settled", 7, 2)
    assert (found["cost_nano_usd"], found["estimated"]) == (7 * 1000 + 2 * 10_000, False)
    assert found["attempts"][0]["cost_nano_usd"] == 27_000
    assert json.loads(found["attempts"][0]["rates"])
    assert spending(tmp_path / "ledger.db") == (27_000, False)


def test_a_stream_that_is_left_goes_on_in_the_background(
    ground: Ground, openai_at: Any, vendor: Vendor, tmp_path: Path
) -> None:
    running = ground.gateway(config(ground, vendor, ledger={"url": f"sqlite:///{tmp_path}/ledger.db"}))
    ann = openai_at(running, api_key="ann-key")
    stream = ann.responses.create(model="m", input="Hi", background=True, stream=True)
    id, call = next(iter(stream)).response.id, stream.response.headers["x-request-id"]
    # The stream is still under way, and its response is known already.
    assert ann.responses.retrieve(id).status == "queued"
    with pytest.raises(openai.NotFoundError):
        openai_at(running, api_key="bob-key").responses.cancel(id)
    stream.close()
    ground.left(vendor.under_way[0])
    found = record(ground, running, call)
    assert (found["state"], found["ending"], found["output_tokens"]) == ("unknown", "client_gone", None)
    rest = list(ann.responses.retrieve(id, stream=True, starting_after=3))
    assert rest[-1].response.usage.total_tokens == 9
    found = record(ground, running, call)
    assert (found["state"], found["input_tokens"], found["output_tokens"]) == ("settled", 7, 2)


def test_what_is_cancelled_before_it_tells_its_usage_stays_unknown(
    ground: Ground, openai_at: Any, vendor: Vendor
) -> None:
    running = ground.gateway(config(ground, vendor))
    ann = openai_at(running, api_key="ann-key")
    raw = ann.responses.with_raw_response.create(model="m", input="Hi", background=True)
    assert ann.responses.cancel(raw.parse().id).status == "cancelled"
    settle(ground, running)
    assert record(ground, running, raw.headers["x-request-id"])["state"] == "unknown"
