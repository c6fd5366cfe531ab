"""The same question is answered from memory: told in any delivery, to whom it belongs, and for as long as it may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidegate.contract import (
    Call,
    Caller,
    Chunk,
    Citation,
    Embedding,
    End,
    Finish,
    Handler,
    Model,
    Naming,
    Opaque,
    Part,
    Plugin,
    Reasoning,
    Reply,
    Report,
    Request,
    Start,
    Text,
    ToolCall,
    Usage,
)
from sidegate.contract.call import Asked
from sidegate.errors import Refusal
from sidegate.pipeline import chain
from sidegate.testing import MISBEHAVIOURS, PLUGIN_CHECKS, Script, answering, check_plugin, gateway
from sidegate_plugins._cache_key import key_of
from sidegate_plugins._cache_parts import folded
from sidegate_plugins._cache_stored import pack, unpack
from sidegate_plugins._cache_wishes import Wishes, wishes
from sidegate_plugins.cache import Cache, Settings
from tests.across.ground import PROVIDERS, UI, Across, Answer, across
from tests.plugins.calls import HandClock, ListLog, ListOutlet, a_call, a_host

CACHE = {"use": "cache"}


def text_of(answer: Answer) -> str:
    return "".join(part.text for part in answer.parts if isinstance(part, Text))


def used(answer: Answer) -> tuple[int | None, int | None]:
    found = Usage()
    for part in answer.parts:
        if isinstance(part, Report):
            found = found.merge(part.usage)
    return found.input_tokens, found.output_tokens


def status(answer: Answer) -> str:
    return answer.headers["cache-status"]


@asynccontextmanager
async def speaking() -> AsyncIterator[Across]:
    """Each provider answers well, behind a cache."""
    async with across(plugins=[CACHE]) as there:
        there.plays = {name: answering(dialect) for name, dialect in PROVIDERS.items()}
        yield there


# --- every dialect, each delivery from the other ----------------------------------------------------------------------


@pytest.mark.parametrize("client", PROVIDERS)
async def test_what_one_delivery_was_told_serves_the_other(client: str) -> None:
    """By a provider of each dialect: bytes that pass, and replies that are translated."""
    async with speaking() as there:
        for first in (True, False):
            for provider in PROVIDERS:
                fields = _asking(client, f"{provider} {first}")
                before = there.count()
                told = await there.ask(client, provider, fields, stream=first)
                assert (told.status, status(told)) == (200, "sidegate; fwd=miss")
                for stream in (first, not first):
                    again = await there.ask(client, provider, fields, stream=stream)
                    assert again.status == 200
                    assert status(again).startswith("sidegate; hit; ttl=")
                    assert again.headers["age"].isdigit()
                    assert text_of(again) == text_of(told)
                    assert used(again) == used(told)
                    if stream is first:
                        assert again.body == told.body
                assert there.count() == before + 1


def _asking(client: str, words: str, id: str = "u") -> dict[str, Any]:
    bodies: Mapping[str, dict[str, Any]] = {
        "openai.chat": {"messages": [{"role": "user", "content": words}]},
        "openai.responses": {"input": words},
        "anthropic.messages": {"max_tokens": 9, "messages": [{"role": "user", "content": words}]},
        "gemini.generate": {"contents": [{"role": "user", "parts": [{"text": words}]}]},
        UI: {"id": f"chat-{id}", "messages": [{"id": id, "role": "user", "parts": [{"type": "text", "text": words}]}]},
    }
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in {"model": "m", **bodies[client]}.items()}


async def test_a_browser_is_told_the_same_whatever_it_calls_its_messages() -> None:
    async with speaking() as there:
        bodies = [await there.ask(UI, "anthropic.messages", _asking(UI, "hi", id)) for id in ("u1", "u2")]
        assert (bodies[0].body, there.count()) == (bodies[1].body, 1)
        assert status(bodies[1]).startswith("sidegate; hit")


async def test_usage_is_told_to_those_who_ask_for_it_whoever_asked_first() -> None:
    async with across(plugins=[CACHE]) as there:
        there.plays = {"openai.chat": answering("openai")}
        url = f"{there.running.url}/v1/chat/completions"
        for first in (True, False):
            body = {"model": "openai.chat", "stream": True, "messages": [{"role": "user", "content": f"{first}"}]}
            with_usage = body | {"stream_options": {"include_usage": True}}
            for wanted in (first, not first, first):
                text = await _post(url, with_usage if wanted else body)
                assert ('"prompt_tokens":7' in text) is wanted
                assert text.endswith("data: [DONE]\n\n")
        assert there.count() == 2


async def _post(url: str, body: Any, **headers: str) -> str:
    async with aiohttp.ClientSession() as http, http.post(url, json=body, headers=headers) as reply:
        assert reply.status == 200, await reply.text()
        return await reply.text()


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_vectors_are_kept_in_the_encoding_that_was_asked_for(encoding: str) -> None:
    async with gateway(_demo(CACHE)) as running:
        url = f"{running.url}/v1/embeddings"
        body = {"model": "demo-embed", "input": ["a", "b"], "encoding_format": encoding}
        first, again = await _post(url, body), await _post(url, body)
        assert first == again
        other = await _post(url, body | {"encoding_format": "base64" if encoding == "float" else "float"})
        assert msgspec.json.decode(other)["data"] != msgspec.json.decode(first)["data"]
        calls = _counts(running)
    assert calls == {"miss": 2, "hit": 1}


def _demo(*plugins: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    return {
        "providers": {"demo": {"dialect": "demo", "settings": {"tokens_per_second": 0, "first_token": 0}}},
        "models": {"demo*": {"provider": "demo"}},
        "pipelines": {"main": {"plugins": list(plugins)}},
        "server": {"drain": 1},
        **rest,
    }


def _counts(running: Any) -> dict[str, int]:
    """By result, of the cache's own metric."""
    found = {}
    for metric in running.service.metrics.registry.collect():
        for sample in metric.samples:
            if sample.name == "sidegate_plugin_cache_calls_total":
                found[sample.labels["result"]] = int(sample.value)
    return found


@pytest.mark.parametrize("check", PLUGIN_CHECKS)
async def test_it_keeps_the_contract(check: str) -> None:
    await check_plugin(check, Cache, Settings())


# --- money ------------------------------------------------------------------------------------------------------------


async def test_a_hit_is_one_row_of_the_ledger_with_no_attempt_and_no_cost() -> None:
    cost = {"use": "cost", "settings": {"prices": {"demo*": {"input": 1, "output": 2}}}}
    async with gateway(_demo({"use": "log"}, cost, CACHE)) as running:
        body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
        for _ in range(2):
            await _post(f"{running.url}/v1/chat/completions", body)
        text = await _post(f"{running.url}/v1/chat/completions", body | {"stream": True})
        async with asyncio.timeout(5):
            while len(running.log.events("call")) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        lines = running.log.events("call")
        async with aiohttp.ClientSession() as http, http.get(f"{running.url}/v1/usage") as reply:
            assert reply.status == 200
    assert "cost_usd=0.000000000" in text
    assert [line["cost_nano_usd"] for line in lines[1:]] == [0, 0]
    assert lines[0]["cost_nano_usd"] > 0
    assert [len(line.get("attempts", [])) for line in lines] == [1, 0, 0]


# --- one plugin before a core of the test's ---------------------------------------------------------------------------


class Core:
    """A provider that says words and counts its calls; it waits before each or fails in the middle if told to."""

    def __init__(self, *words: str) -> None:
        self.words = words or ("one ", "two")
        self.calls = 0
        self.gate: asyncio.Semaphore | None = None
        self.failure: BaseException | None = None
        self.finish: Any = "stop"

    async def __call__(self, call: Call) -> Reply:
        self.calls += 1
        usage = Usage(3, len(self.words))
        for word in self.words:
            if self.gate is not None:
                await self.gate.acquire()
            await call.send(Chunk.of(Text(word)))
        if self.failure is not None:
            raise self.failure
        for part in (Finish(self.finish), Report(usage), End()):
            await call.send(Chunk.of(part))
        return Reply(usage=usage, finish=self.finish, model="m")


class Named:
    def __init__(self, name: str, plugin: Plugin[Any]) -> None:
        self.name, self.plugin = name, plugin


def _raise(name: str, error: Exception | SystemExit) -> None:
    raise AssertionError(f"{name} failed") from error


class Ground:
    def __init__(self, core: Core | None = None, **given: Any) -> None:
        self.clock, self.log = HandClock(), ListLog()
        self.core = core or Core()
        self.plugin = Cache(Settings(**given), a_host(self.clock, log=self.log))

    def call(
        self, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Call:
        call = a_call(self.clock, **more)
        fields = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in (body or {"messages": "hi"}).items()}
        temperature = None if body is None else body.get("temperature")
        call.asked = Asked(
            headers=headers or {}, fields=fields, read=lambda: Request(model=call.model, temperature=temperature)
        )
        return call

    async def run(self, call: Call, *inner: Plugin[Any]) -> Reply:
        named = [Named("cache", self.plugin), *(Named(type(each).__name__, each) for each in inner)]
        return await chain(named, self.core, self.clock, _raise)(call)

    async def ask(self, *args: Any, **more: Any) -> str:
        """What the cache said of it, without times."""
        call = self.call(*args, **more)
        await self.run(call)
        assert said(call) == "".join(self.core.words)
        return call.reply_headers["cache-status"].removeprefix("sidegate; ").partition(";")[0]


def said(call: Call) -> str:
    outlet = call._outlet
    assert isinstance(outlet, ListOutlet)
    return "".join(chunk.text for chunk in outlet.sent)


async def settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


# --- whose it is ------------------------------------------------------------------------------------------------------

ANN, BOB = Caller("ann", team="red"), Caller("bob", team="red")
EVE, LONE = Caller("eve", team="blue"), Caller("red")


@pytest.mark.parametrize(
    ("scope", "asked", "result"),
    [
        ("caller", ANN, "hit"),
        ("caller", BOB, "fwd=miss"),
        ("team", BOB, "hit"),
        ("team", EVE, "fwd=miss"),
        ("team", LONE, "fwd=miss"),
        ("everyone", EVE, "hit"),
    ],
)
async def test_an_answer_is_told_to_those_it_belongs_to(scope: Any, asked: Caller, result: str) -> None:
    there = Ground(scope=scope)
    assert await there.ask(caller=ANN) == "fwd=miss"
    assert await there.ask(caller=asked) == result


async def test_the_default_is_the_callers_own() -> None:
    there = Ground()
    assert [await there.ask(caller=caller) for caller in (ANN, BOB, ANN)] == ["fwd=miss", "fwd=miss", "hit"]


async def test_a_model_that_is_out_of_sight_is_not_answered_for() -> None:
    there = Ground(scope="everyone")
    await there.ask()
    call = there.call()
    call.restrict_models(lambda name: False)
    await there.run(call)
    assert there.core.calls == 2


# --- what makes a question another one --------------------------------------------------------------------------------

BODY: Mapping[str, Any] = {
    "messages": [{"role": "user", "content": "hi"}],
    "temperature": 0.5,
    "n": 1,
    "deep": {"a": [1]},
}


def key(body: Mapping[str, Any], **more: Any) -> str | None:
    models = more.pop("models", ())
    version = more.pop("version", "")
    headers = more.pop("headers", None)
    dialect = more.pop("dialect", "openai.chat")
    scope = more.pop("scope", "caller")
    call = Ground().call(body, headers, **more)
    call.dialect = dialect
    return key_of(call, scope, models, version)


@pytest.mark.parametrize(
    "changed",
    [
        {"temperature": 0.6},
        {"temperature": 1},
        {"n": 2},
        {"messages": [{"role": "user", "content": "hi "}]},
        {"messages": [{"role": "system", "content": "hi"}]},
        {"deep": {"a": [1, 2]}},
        {"deep": {"a": [True]}},
        {"nobody_knows": None},
        {"tools": []},
        {"logprobs": True},
    ],
    ids=str,
)
def test_every_field_that_may_change_the_answer_changes_the_key(changed: Mapping[str, Any]) -> None:
    assert key({**BODY, **changed}) != key(BODY)


@pytest.mark.parametrize(
    "around",
    [
        {"model": "other"},
        {"operation": "text_completion"},
        {"dialect": "anthropic.messages"},
        {"route": "other"},
        {"version": "2"},
        {"caller": "bob"},
        {"headers": {"anthropic-beta": "x"}},
        {"models": (Model("gpt", (("openai", "gpt-5"),)),)},
        {"models": (Model("g*", (("openai", "gpt-5"),)),)},
    ],
    ids=str,
)
def test_everything_round_it_that_may_change_the_answer_changes_the_key(around: Mapping[str, Any]) -> None:
    assert key(BODY, **around) != key(BODY)


@pytest.mark.parametrize(
    "noise",
    [
        {"stream": True},
        {"stream_options": {"include_usage": True}},
        {"user": "u-1"},
        {"metadata": {"trace": "1"}},
        {"safety_identifier": "x"},
        {"prompt_cache_key": "x"},
    ],
    ids=str,
)
def test_what_says_nothing_about_the_answer_does_not(noise: Mapping[str, Any]) -> None:
    assert key({**BODY, **noise}) == key(BODY)


def test_neither_does_the_order_of_fields_nor_another_model_of_the_config() -> None:
    assert key(dict(reversed(list(BODY.items())))) == key(BODY)
    assert key(BODY, models=(Model("other*", (("a", "b"),)),)) == key(BODY)


@pytest.mark.parametrize("once", [{"background": True}, {"conversation": "conv_1"}, {"container": "c"}], ids=str)
def test_what_goes_on_elsewhere_is_not_kept(once: Mapping[str, Any]) -> None:
    assert key({**BODY, **once}) is None


def test_what_belongs_to_a_caller_is_kept_for_that_caller_alone() -> None:
    """Whose a response is is asked behind the cache: nobody else is told what followed it."""
    follows = {**BODY, "previous_response_id": "resp_1"}
    assert key(follows) is not None
    assert key(follows, scope="team") is key(follows, scope="everyone") is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(_JSON, _JSON)
def test_two_values_have_one_key_only_where_they_are_the_same_json(one: Any, other: Any) -> None:
    same = msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")
    assert (key({"messages": one}) == key({"messages": other})) is same


async def test_a_request_that_a_plugin_further_out_has_changed_is_another_one() -> None:
    there = Ground()
    await there.ask()
    call = there.call()
    call.request = Request(model="gpt", temperature=0.0)
    await there.run(call)
    assert there.core.calls == 2


# --- for how long, and how much ---------------------------------------------------------------------------------------


async def test_after_its_time_an_answer_is_asked_for_again() -> None:
    there = Ground(keep=60)
    await there.ask()
    there.clock.pass_by(59)
    call = there.call()
    await there.run(call)
    assert (call.reply_headers["cache-status"], call.reply_headers["age"]) == ("sidegate; hit; ttl=1", "59")
    there.clock.pass_by(2)
    assert await there.ask() == "fwd=miss"


async def test_the_least_recently_told_goes_first() -> None:
    there = Ground(max_entries=2)
    one, two, three = ({"messages": number} for number in range(3))
    for body in (one, two, one, three):
        await there.ask(body)
    assert [await there.ask(one), await there.ask(two)] == ["hit", "fwd=miss"]


async def test_what_is_kept_outlives_a_reload_with_the_bounds_of_the_new_config() -> None:
    there = Ground(keep=60)
    await there.ask()
    before = there.plugin
    there.plugin = Cache(Settings(keep=30), before.host)
    there.plugin.inherit(before)
    there.clock.pass_by(29)
    assert await there.ask() == "hit"
    there.clock.pass_by(2)
    assert await there.ask() == "fwd=miss"


async def test_an_answer_that_is_too_large_passes_and_is_not_kept() -> None:
    there = Ground(Core("x" * 5000), max_reply_bytes=4096)
    assert [await there.ask(), await there.ask()] == ["fwd=miss", "fwd=miss"]
    assert there.plugin.replies.size == 0


# --- what the client asks of it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "after", "result", "next_one"),
    [
        ("no-cache", 5, "fwd=request", "hit; ttl=3600"),
        ("no-store", 5, "fwd=request", "hit; ttl=3595"),
        ("max-age=4", 5, "fwd=miss", "hit; ttl=3600"),
        ("max-age=5", 5, "hit", "hit; ttl=3595"),
        ("max-age=nonsense", 5, "fwd=miss", "hit; ttl=3600"),
        ("min-fresh=3596", 5, "fwd=miss", "hit; ttl=3600"),
        ("min-fresh=3595, nobody-knows=1", 5, "hit", "hit; ttl=3595"),
        ("only-if-cached", 5, "hit", "hit; ttl=3595"),
    ],
)
async def test_a_client_says_what_it_takes(header: str, after: float, result: str, next_one: str) -> None:
    there = Ground()
    await there.ask()
    there.clock.pass_by(after)
    assert await there.ask(headers={"cache-control": header}) == result
    call = there.call()
    await there.run(call)
    assert call.reply_headers["cache-status"] == f"sidegate; {next_one}"


async def test_only_what_is_kept_or_504() -> None:
    there = Ground()
    with pytest.raises(Refusal) as caught:
        await there.ask(headers={"cache-control": "only-if-cached"})
    assert (caught.value.status, caught.value.code, there.core.calls) == (504, "not_cached", 0)
    assert await there.ask() == "fwd=miss"


def test_regenerating_in_a_browser_asks_anew() -> None:
    again = {"trigger": msgspec.Raw(b'"regenerate-message"')}
    assert wishes({}, again) == Wishes(reuse=False)
    assert wishes({}, {"trigger": msgspec.Raw(b'"submit-message"')}) == Wishes()
    assert not wishes({"cache-control": "max-age=1"}, again).reuse


async def test_only_what_is_deterministic_where_the_config_says_so() -> None:
    there = Ground(when="deterministic")
    for body, result in (
        ({"messages": 1, "temperature": 0}, ["fwd=miss", "hit"]),
        ({"messages": 1, "temperature": 0.1}, ["fwd=bypass", "fwd=bypass"]),
        ({"messages": 1}, ["fwd=bypass", "fwd=bypass"]),
    ):
        assert [await there.ask(body), await there.ask(body)] == result
    embed = {"body": {"input": "x"}, "operation": "embeddings"}
    assert [await there.ask(**embed), await there.ask(**embed)] == ["fwd=miss", "hit"]


@pytest.mark.parametrize("operation", ["models", "calls", "count_tokens", "jobs", "realtime"])
async def test_other_operations_pass(operation: str) -> None:
    there = Ground()
    for _ in range(2):
        call = there.call(operation=operation)
        await there.run(call)
        assert "cache-status" not in call.reply_headers
    assert there.core.calls == 2


# --- what is not kept -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure", [Refusal(403, "no", "No."), ValueError("broken"), asyncio.CancelledError()], ids=repr
)
async def test_what_fails_or_is_cut_is_not_kept(failure: BaseException) -> None:
    there = Ground()
    there.core.failure = failure
    with pytest.raises((Refusal, ValueError, asyncio.CancelledError)):
        await there.run(there.call())
    there.core.failure = None
    assert len(there.plugin.replies) == 0
    assert await there.ask() == "fwd=miss"


@pytest.mark.parametrize("finish", ["content_filter", "refusal", "error"])
async def test_who_was_declined_may_ask_again(finish: str) -> None:
    there = Ground()
    there.core.finish = finish
    assert [await there.ask(), await there.ask()] == ["fwd=miss", "fwd=miss"]


async def test_a_provider_that_cuts_a_stream_is_asked_again() -> None:
    async with across(plugins=[CACHE]) as there:
        plays: list[Script] = [MISBEHAVIOURS["reset_in_mid_stream"]("openai"), answering("openai")]
        there.plays = {"openai.chat": plays[0]}
        await there.ask("openai.chat", "openai.chat", stream=True)
        there.plays = {"openai.chat": plays[1]}
        answers = [await there.ask("openai.chat", "openai.chat", stream=True) for _ in range(2)]
        assert [status(answer).partition("; ttl")[0] for answer in answers] == ["sidegate; fwd=miss", "sidegate; hit"]


async def test_an_edit_further_in_is_kept_with_the_answer_and_one_further_out_is_made_each_time() -> None:
    class Upper(Plugin[None]):
        async def __call__(self, call: Call, handler: Handler) -> Reply:
            class Edit:
                def see(self, chunk: Chunk) -> list[Chunk]:
                    return [chunk.with_text(str.upper)]

                def end(self, ending: Any) -> list[Chunk]:
                    return []

            call.change(Edit())
            return await handler(call)

    there = Ground()
    upper = Upper(None, there.plugin.host)
    first, again = there.call(), there.call()
    await there.run(first, upper)
    await there.run(again)
    assert (said(first), said(again), there.core.calls) == ("ONE TWO", "ONE TWO", 1)
    assert again.notes.edited


# --- many at once -----------------------------------------------------------------------------------------------------


async def test_fifty_at_once_are_one_call() -> None:
    there = Ground()
    there.core.gate = asyncio.Semaphore(0)
    calls = [there.call() for _ in range(50)]
    tasks = [asyncio.create_task(there.run(call)) for call in calls]
    await settle()
    there.core.gate.release()
    there.core.gate.release()
    await asyncio.gather(*tasks)
    assert there.core.calls == 1
    assert {said(call) for call in calls} == {"one two"}
    assert sorted(call.reply_headers["cache-status"] for call in calls) == [
        "sidegate; fwd=miss",
        *["sidegate; fwd=miss; collapsed"] * 49,
    ]


async def test_where_the_first_is_cancelled_another_asks() -> None:
    there = Ground()
    there.core.gate = asyncio.Semaphore(1)
    tasks = [asyncio.create_task(there.run(there.call())) for _ in range(3)]
    await settle()
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    assert tasks[0].cancelled()
    await settle()
    assert there.core.calls == 2
    for _ in range(2):
        there.core.gate.release()
    assert [reply.complete for reply in await asyncio.gather(*tasks[1:])] == [True, True]
    assert there.core.calls == 2


async def test_who_waits_and_leaves_ends_nobody_elses_call() -> None:
    there = Ground()
    there.core.gate = asyncio.Semaphore(0)
    first = asyncio.create_task(there.run(there.call()))
    await settle()
    second = asyncio.create_task(there.run(there.call()))
    await settle()
    second.cancel()
    await asyncio.wait([second])
    there.core.gate.release()
    there.core.gate.release()
    assert (await first).complete
    assert second.cancelled()
    assert await there.ask() == "hit"


async def test_nobody_waits_longer_than_it_should() -> None:
    there = Ground(wait=0)
    there.core.gate = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(there.run(there.call())) for _ in range(2)]
    async with asyncio.timeout(5):
        while there.core.calls < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    for _ in range(4):
        there.core.gate.release()
    await asyncio.gather(*tasks)


async def test_a_hit_that_is_cancelled_in_the_middle_leaves_what_is_kept() -> None:
    there = Ground(Core(*["word "] * 200))
    await there.ask()
    call = there.call()
    outlet = call._outlet
    assert isinstance(outlet, ListOutlet)
    task = asyncio.create_task(there.run(call))
    while not outlet.sent:  # noqa: ASYNC110
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert 0 < len(outlet.sent) < 200
    assert await there.ask() == "hit"


# --- the store that replicas share ------------------------------------------------------------------------------------


def _sharing(url: str) -> dict[str, Any]:
    cache = {"use": "cache", "settings": {"store": "shared", "scope": "everyone"}}
    return _demo(cache, counters={"url": url})


@pytest.mark.parametrize("first", [True, False])
async def test_an_answer_that_one_gateway_got_is_told_by_another(redis_url: str, first: bool) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
    async with gateway(_sharing(redis_url)) as one, gateway(_sharing(redis_url)) as other:
        told = await _post(f"{one.url}/v1/chat/completions", body | {"stream": first})
        same = await _post(f"{other.url}/v1/chat/completions", body | {"stream": first})
        await _post(f"{other.url}/v1/chat/completions", body | {"stream": not first})
        await _post(f"{one.url}/v1/chat/completions", body | {"stream": first})
        assert (_counts(one), _counts(other)) == ({"miss": 1, "hit": 1}, {"hit": 2})
        assert same == told


async def test_without_its_store_the_cache_knows_nothing_and_the_calls_are_well(
    redis_url: str, fault_proxy: Any
) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
    broken = await fault_proxy(redis_url)
    async with gateway(_sharing(broken.url)) as running:
        url = f"{running.url}/v1/chat/completions"
        await _post(url, body)
        await _post(url, body)
        assert _counts(running) == {"miss": 1, "hit": 1}
        broken.black_hole()
        await _post(url, body)
        await broken.refuse()
        broken.reset()
        await _post(url, body)
        assert _counts(running) == {"miss": 3, "hit": 1}


async def test_what_others_have_written_into_the_store_is_no_answer(redis_url: str) -> None:
    from redis.asyncio import Redis

    body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
    async with gateway(_sharing(redis_url)) as running, Redis.from_url(redis_url) as redis:
        url = f"{running.url}/v1/chat/completions"
        await _post(url, body)
        (name,) = [name async for name in redis.scan_iter("*:value:*")]
        assert await redis.pttl(name) > 0
        kept = await redis.get(name)
        assert isinstance(kept, bytes)
        for number, data in enumerate((b"", b"\xc1", kept[:-3], b"\x91" * 5000, msgspec.msgpack.encode([2, 3]))):
            await redis.set(name, data)
            await _post(url, body)
            assert _counts(running)["miss"] == number + 2


def test_a_shared_store_must_be_there() -> None:
    with pytest.raises(ValueError, match=r"counters\.url"):
        Cache(Settings(store="shared"), a_host(HandClock()))


PARTS: tuple[Part, ...] = (
    Start("r1", "m", 5),
    Text("a", 1, 2),
    Reasoning("b", signature="s", vendor="anthropic"),
    ToolCall('{"a":1}', "t1", "f", 0, 1),
    Citation(url="u", data={"x": [1]}),
    Embedding((0.25, -1e300), 3),
    Opaque("k", data={"y": None}),
    Finish("stop"),
    Report(Usage(1, 2, estimated=True)),
    End(),
)


def test_every_part_is_read_back_as_it_was() -> None:
    chunk = Chunk(b"raw", parts=PARTS, dialect="d", whole=True, closing=True, meaningful=True)
    chunk.hidden = True
    data = pack("k", 1.5, Naming("n", 2), True, Reply(usage=Usage(1, 2), finish="stop", model="m"), [chunk])
    assert data is not None
    found = unpack(data, "k")
    assert found is not None
    stored, (read,) = found
    assert (read.parts, read.raw, read.whole, read.closing, read.hidden) == (PARTS, b"raw", True, True, True)
    assert (stored.at, stored.naming, stored.edited) == (1.5, Naming("n", 2), True)
    assert stored.reply == Reply(usage=Usage(1, 2), finish="stop", model="m")
    assert unpack(data, "other") is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 10_000), st.integers(0, 255))
def test_no_bytes_are_an_answer_but_those_that_were_one(data: bytes, place: int, byte: int) -> None:
    assert unpack(data, "k") is None
    good = pack("k", 1.5, Naming("n", 2), False, Reply(), [Chunk.of(*PARTS)])
    assert good is not None
    broken = bytearray(good)
    broken[place % len(broken)] = byte
    found = unpack(bytes(broken), "k")
    assert found is None or found[1][-1].closing


def test_what_bytes_cannot_hold_is_not_kept() -> None:
    assert pack("k", 1.5, Naming("n", 2), False, Reply(), [Chunk.of(Opaque("k", data=object()), End())]) is None


def test_pieces_of_a_block_become_one() -> None:
    pieces: list[Part] = [
        Text("a", 0, 0),
        Text("x", 1, 0),
        Text("b", 0, 0),
        Reasoning("t", 0, 1),
        Reasoning("u", 0, 1),
        Reasoning("", 0, 1, signature="s"),
        ToolCall("", "t1", "f", 0, 2),
        ToolCall('{"a"', None, None, 0, 2),
        ToolCall(":1}", None, None, 0, 2),
        ToolCall("", "t2", "g", 0, 2),
        ToolCall("{}", None, None, 0, 2),
        Report(Usage(1)),
        Finish("stop"),
        Report(Usage(None, 2)),
        End(),
    ]
    assert folded(pieces) == [
        Text("ab", 0, 0),
        Text("x", 1, 0),
        Reasoning("tu", 0, 1, signature="s"),
        ToolCall('{"a":1}', "t1", "f", 0, 2),
        ToolCall("{}", "t2", "g", 0, 2),
        Finish("stop"),
        Report(Usage(1, 2)),
        End(),
    ]
