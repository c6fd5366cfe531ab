"""What holds of a session: who may open it, how many, how often it may answer, by which models, and for how much."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sidegate.config import ConfigErrors
from sidegate.contract import Call, Handler, Input, Plugin, Reply
from sidegate.errors import Refusal
from sidegate.testing import gateway
from tests.realtime.ground import COST, REFUSED, closed, config, cost, events, gateway_for, keys, rows, session, status
from tests.realtime.provider import SILENCE, SPEECH, realtime_provider


async def test_without_a_key_there_is_no_session_and_the_provider_hears_nothing() -> None:
    async with realtime_provider() as provider, gateway_for(provider, keys()) as running:
        with pytest.raises(REFUSED) as caught:
            async with session(running, extra_headers={"Authorization": "Bearer sk-of-nobody"}):
                pass
        assert status(caught.value) == 401
        [line] = await rows(running, 1)
        assert (line["operation"], line["status"], line["plugin"]) == ("realtime", 401, "api_key")
        assert provider.asked == []


async def test_a_model_that_the_caller_may_not_use_is_not_there_at_the_start_nor_in_an_update() -> None:
    access = {"use": "model_access", "settings": {"callers": {"ann": ["voice"]}}}
    async with realtime_provider() as provider, gateway_for(provider, keys(), access) as running:
        with pytest.raises(REFUSED) as caught:
            async with session(running, model="gpt-4o-mini-transcribe"):
                pass
        assert status(caught.value) == 404
        async with session(running) as connection:
            await connection.session.update(session={"type": "realtime", "model": "gpt-realtime-2"})
            assert (await events(connection, "error"))[-1].error.code == "model_fixed"
            update = {"audio": {"input": {"transcription": {"model": "gpt-4o-mini-transcribe"}}}}
            await connection.session.update(session={"type": "realtime", **update})
            assert (await events(connection, "error"))[-1].error.code == "model_not_found"
            await connection.send(
                {"type": "session.update", "event_id": "mine", "session": {"type": "realtime", "model": "voice"}}
            )
            await events(connection, "session.updated")
        sent = [event for event in provider.voices[0].heard if event["type"] == "session.update"]
        assert sent == [
            {"type": "session.update", "event_id": "mine", "session": {"type": "realtime", "model": "gpt-realtime"}}
        ]


async def test_a_key_that_stands_twice_in_an_update_is_refused() -> None:
    async with realtime_provider() as provider, gateway_for(provider) as running, session(running) as connection:
        twice = '{"type":"session.update","session":{"model":"voice"},"session":{"model":"other"}}'
        await connection._connection.send(twice)
        assert (await events(connection, "error"))[-1].error.code == "duplicate_key"
        assert provider.voices[0].heard == []


async def test_each_response_counts_and_one_too_many_is_an_error_event_in_a_session_that_goes_on() -> None:
    limit = {"name": "few", "requests": 3, "period": "hour"}
    plugin = {"use": "rate_limit", "settings": {"limits": [limit]}}
    async with realtime_provider() as provider, gateway_for(provider, keys(), plugin) as running:
        async with session(running) as connection:
            for _ in range(2):
                await connection.response.create()
                await events(connection, "response.done")
            await connection.send({"type": "response.create", "event_id": "third"})
            error = (await events(connection, "error"))[-1].error
            assert (error.code, error.type, error.event_id) == ("rate_limit_exceeded", "rate_limit_error", "third")
            await connection.session.update(session={"type": "realtime"})
            await events(connection, "session.updated")
        assert provider.voices[0].responses == 2
        refused = [line for line in await rows(running, 4) if line["status"] == 429]
        assert [(line["operation"], line["plugin"], line["attempts"]) for line in refused] == [
            ("realtime_response", "rate_limit", [])
        ]


async def test_tokens_of_a_response_count_by_what_its_provider_reports() -> None:
    limit = {"name": "tokens", "output_tokens": 5000, "period": "hour"}
    plugin = {"use": "rate_limit", "settings": {"limits": [limit]}}
    async with realtime_provider() as provider, gateway_for(provider, keys(), plugin) as running:
        async with session(running) as connection:
            # Each claims 4,096 before, and gives back all but the 121 that it used.
            for _ in range(5):
                await connection.response.create()
                await events(connection, "response.done")
                done = len(provider.voices[0].heard)
                await rows(running, done)
        assert provider.voices[0].responses == 5


async def test_an_answer_that_the_provider_begins_beyond_the_limit_is_stopped_and_on_record() -> None:
    limit = {"name": "few", "requests": 1, "period": "hour"}
    plugins = keys(), cost(), {"use": "rate_limit", "settings": {"limits": [limit]}}
    async with realtime_provider() as provider, gateway_for(provider, *plugins) as running:
        async with session(running) as connection:
            await connection.input_audio_buffer.append(audio=SILENCE)
            heard = await events(connection, "error")
            assert heard[-1].error.code == "rate_limit_exceeded"
            lines = await rows(running, 2)
        refused = next(line for line in lines if line["operation"] == "realtime_response")
        assert (refused["status"], refused["plugin"]) == (429, "rate_limit")
        # It was logged when it was refused; what it used came after.
        assert refused["usage_estimated"]
        kept = await running.service.ledger.call(refused["call"])
        assert kept is not None
        assert (kept[0].output_tokens, kept[0].cost_nano_usd, kept[0].estimated) == (121, COST, False)


@pytest.mark.parametrize("when", ["after the answer", "while it is given", "before one apart"])
async def test_a_budget_that_is_used_up_refuses_the_next_response_before_it_is_asked_for(when: str) -> None:
    """Whatever has come since the last answer to the conversation began: no report had it."""
    most = (4096 * 64 + 10_000 * 32) / 10**6
    budget = {"name": "day", "amount_usd": round(most, 6), "period": "day", "per": ["caller"]}
    async with realtime_provider() as provider, gateway_for(provider, keys(), cost(budgets=[budget])) as running:
        async with session(running) as connection:

            async def speak() -> None:
                # What comes in counts at most a token a byte: more than is left.
                await connection.conversation.item.create(
                    item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 20_000}]}
                )

            if when == "before one apart":
                await connection.conversation.item.create(
                    item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 4000}]}
                )
                await connection.response.create(response={"conversation": "none"})
                await events(connection, "response.done")
                await connection.conversation.item.create(
                    item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 6000}]}
                )
            else:
                await connection.response.create()
                if when == "while it is given":
                    await events(connection, "response.created")
                    await speak()
                await events(connection, "response.done")
                await rows(running, 1)
                if when == "after the answer":
                    await speak()
            await connection.response.create()
            error = (await events(connection, "error"))[-1].error
            assert (error.code, error.type) == ("insufficient_quota", "insufficient_quota")
        assert provider.voices[0].responses == 1
        spent = await running.service.ledger.call((await rows(running, 1))[0]["call"])
        assert spent is not None
        assert spent[0].cost_nano_usd == COST


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('{"type":"response.create","event_id":"\\ud800"}', "insufficient_quota"),
        ('{"type":"response.create","response":{"instructions":"\\udc00"}}', "insufficient_quota"),
        (b'{"type":"response.create"}', "insufficient_quota"),
        (b' \n{"type":"response.create"}', "insufficient_quota"),
        (b'\xef\xbb\xbf{"type":"response.create"}', "invalid_event"),
        ('{"type":"response.create"}'.encode("utf-16"), "invalid_event"),
        ('{"type":"response.create","event_id":7}', "invalid_event"),
        ('\ufeff{"type":"response.create"}', "invalid_event"),
        ('{"type":"response.create","response":NaN}', "invalid_event"),
        ('[{"type":"response.create"}]', "invalid_event"),
    ],
)
async def test_no_way_to_spell_a_request_passes_a_budget_by(said: str | bytes, code: str) -> None:
    """A provider may read what JSON as it is strictly read is not."""
    small = cost(budgets=[{"name": "b", "amount_usd": "0.0001"}])
    async with realtime_provider() as provider, gateway_for(provider, keys(), small) as running:
        async with session(running) as connection:
            await connection._connection.send(said)
            assert (await events(connection, "error"))[-1].error.code == code
            await connection.session.update(session={"type": "realtime"})
            await events(connection, "session.updated")
        assert [event["type"] for event in provider.voices[0].heard] == ["session.update"]


async def test_an_answer_that_no_budget_has_room_for_ends_the_session_and_is_charged() -> None:
    budget = {"name": "day", "amount_usd": "0.01", "period": "day"}
    async with realtime_provider() as provider, gateway_for(provider, keys(), cost(budgets=[budget])) as running:
        async with session(running) as connection:
            await connection.input_audio_buffer.append(audio=SILENCE)
            assert await closed(connection) == (1008, "insufficient_quota")
        lines = {line["operation"]: line for line in await rows(running, 3)}
        assert lines["realtime_response"]["cost_nano_usd"] == COST
        assert lines["realtime_response"]["error"] == "insufficient_quota"
        assert lines["realtime"]["status"] == 429


async def test_a_session_holds_a_slot_until_it_is_over() -> None:
    plugin = {"use": "concurrency", "settings": {"limits": [{"name": "one", "calls": 1, "wait": 0}]}}
    async with realtime_provider() as provider, gateway_for(provider, keys(), plugin) as running:
        async with session(running) as connection:
            await connection.recv()
            with pytest.raises(REFUSED) as caught:
                async with session(running):
                    pass
            assert status(caught.value) == 429
        await rows(running, 2)
        async with session(running) as connection:
            await connection.recv()


class Silent(Plugin[None]):
    """Guards what is said, but not on sockets."""


class Listener(Plugin[None]):
    """Hears what the client says, and bears no secrets."""

    deliveries = frozenset({"buffered", "stream", "job", "socket"})

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        def hear(said: Input) -> None:
            if "secret" in str(said.fields.get("item")):
                raise Refusal(400, "no_secrets", "Not here.")

        call.tap_input(hear)
        return await handler(call)


class Ear(Plugin[None]):
    """Hears what is answered, and stops it at a word."""

    deliveries = frozenset({"buffered", "stream", "job", "socket"})

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        def hear(chunk: Any) -> None:
            if "word2" in chunk.text:
                raise Refusal(400, "bad_word", "Not that word.")

        call.tap(hear)
        return await handler(call)


HERE = "tests.realtime.test_limits"


async def test_a_guard_that_does_not_hold_on_sockets_keeps_the_gateway_from_starting() -> None:
    async with realtime_provider() as provider:
        with pytest.raises(ConfigErrors, match=r"pipelines\.main\[1\]: .*Silent guards no Realtime sessions.*`voice`"):
            async with gateway(config(provider, {"use": f"{HERE}:Silent"})):
                pass
        async with gateway(config(provider, {"use": f"{HERE}:Silent"}, route={"operations": ["chat"]})):
            pass


async def test_a_plugin_that_hears_the_client_may_end_the_session() -> None:
    async with realtime_provider() as provider, gateway_for(provider, {"use": f"{HERE}:Listener"}) as running:
        async with session(running) as connection:
            await connection.recv()
            content = [{"type": "input_text", "text": "the secret"}]
            await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
            assert (await events(connection, "error"))[-1].error.code == "no_secrets"
            assert await closed(connection) == (1008, "no_secrets")
        assert provider.voices[0].heard == []
        [line] = await rows(running, 1)
        assert (line["error"], line["plugin"]) == ("no_secrets", "Listener")


async def test_a_plugin_that_hears_the_answer_may_stop_it_and_the_session_goes_on() -> None:
    async with realtime_provider() as provider, gateway_for(provider, {"use": f"{HERE}:Ear"}, cost()) as running:
        async with session(running) as connection:
            await connection.response.create(response={"metadata": {"pieces": "10000", "between": "0.01"}})
            assert (await events(connection, "error"))[-1].error.code == "bad_word"
            assert (await events(connection, "response.done"))[-1].response.status == "cancelled"
            [line] = await rows(running, 1)
            assert (line["error"], line["plugin"], line["cost_nano_usd"]) == ("bad_word", "Ear", COST)
            await connection.session.update(session={"type": "realtime"})
            await events(connection, "session.updated")


async def test_talking_while_an_answer_is_being_let_in_is_not_lost() -> None:
    async with realtime_provider() as provider, gateway_for(provider, keys()) as running:
        async with session(running) as connection:
            await connection.response.create(response={"metadata": {"pieces": "10000", "between": "0.01"}})
            await asyncio.gather(*(connection.input_audio_buffer.append(audio=SPEECH) for _ in range(20)))
            await events(connection, "response.done")
        kinds = [event["type"] for event in provider.voices[0].heard]
        assert kinds == ["response.create", *["input_audio_buffer.append"] * 20]
