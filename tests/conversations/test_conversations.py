"""Conversations over the chat socket: turns, inputs, cancelling, and several who take part."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.testing import Exchange
from tests.conversations.ground import PATH, Client, connected, stage
from tests.jobs.ground import ANN, BOB, WORDS, Scene, Told
from tests.relaying import DONE, ROLE, STOP, delta, until

TEXT = "".join(WORDS)


def asked(on: Scene) -> list[list[tuple[str, Any]]]:
    """What each call has brought to the provider."""
    return [[(m["role"], m["content"]) for m in exchange.json["messages"]] for exchange in on.provider.exchanges]


async def test_many_turns_on_one_connection_are_one_conversation() -> None:
    async with stage() as on, connected(on) as ann:
        opened = await ann.opened(instructions="Be brief.", id="1")
        assert (len(opened["conversation"]), opened["re"], opened["participant"]) == (32, "1", "p1")
        for number in range(2):
            started = await ann.ask("turn.create", "turn.started", input=f"question {number}", id=f"q{number}")
            assert (started["by"], started["model"], started["re"]) == ("p1", "m", f"q{number}")
            ended = await ann.hear("turn.ended")
            assert (ended["ending"], ended["finish_reason"]) == ("complete", "stop")
            assert ann.said(started["turn"]) == TEXT
        first = [("system", "Be brief."), ("user", "question 0")]
        assert asked(on) == [first, [*first, ("assistant", TEXT), ("user", "question 1")]]
        seqs = [one["seq"] for one in ann.events()]
        assert seqs == list(range(opened["seq"] + 1, opened["seq"] + 1 + len(seqs))), "numbered without a gap"


async def test_a_turn_is_a_call_of_its_own_on_record_with_what_it_cost() -> None:
    async with stage() as on, connected(on) as ann:
        started = await ann.ask("turn.create", "turn.started", input="x")
        ended = await ann.hear("turn.ended")
        assert ended["usage"]["output_tokens"] > 0
        assert ended["cost_nano_usd"] > 0
        await on.running.service.ledger.flush()
        row = await on.get(f"/v1/calls/{started['call']}")
        assert (row["operation"], row["delivery"], row["caller"], row["ending"]) == (
            "chat",
            "socket",
            "ann",
            "complete",
        )
        assert row["cost_nano_usd"] == ended["cost_nano_usd"]


async def test_the_first_turn_opens_a_conversation_by_itself() -> None:
    async with stage() as on, connected(on) as ann:
        await ann.ask("turn.create", "turn.ended", input="x")
        assert [one["type"] for one in ann.heard[:2]] == ["conversation.opened", "turn.started"]


async def test_a_cancel_in_mid_answer_keeps_what_was_said_and_marks_it() -> None:
    told = Told()
    async with stage(told) as on, connected(on) as ann, connected(on) as again:
        opened = await ann.opened()
        started = await ann.ask("turn.create", "turn.started", input="x")
        told.go(2)
        await ann.text("Once upon")
        await ann.say("turn.cancel", turn=started["turn"])
        ended = await ann.hear("turn.ended")
        assert (ended["ending"], "error" in ended, ended["usage"]["estimated"]) == ("cancelled", False, True)
        await asyncio.wait_for(on.provider.exchanges[0].closed.wait(), 20)
        history = (await again.joined(opened["conversation"]))["messages"]
        assert history[-1] == {
            "message": {"role": "assistant", "content": "Once upon"},
            "turn": started["turn"],
            "ending": "cancelled",
        }
        told.go(10)
        await ann.ask("turn.create", "turn.ended", input="go on")
        assert asked(on)[1] == [("user", "x"), ("assistant", "Once upon"), ("user", "go on")]


async def test_two_who_take_part_hear_the_same_in_the_same_order_and_pay_for_what_each_asked() -> None:
    told = Told()
    async with stage(told) as on, connected(on) as ann, connected(on, BOB) as bob:
        opened = await ann.opened(name="Ann")
        invitation = (await ann.ask("invitation.create", "invitation.created"))["invitation"]
        told.go(2)
        await ann.ask("turn.create", "turn.started", input="x")
        await ann.text("Once upon")
        joined = await bob.joined(opened["conversation"], invitation=invitation, name="Bob")
        assert [one["message"]["content"] for one in joined["messages"]] == ["x"]
        assert joined["current"]["text"] == "Once upon", "a late joiner gets what was said so far"
        assert joined["participants"] == [{"id": "p1", "name": "Ann"}, {"id": "p2", "name": "Bob"}]
        told.go(10)
        await bob.hear("turn.ended")
        second = await bob.ask("turn.create", "turn.started", input="and then?")
        await asyncio.gather(bob.hear("turn.ended"), ann.hear("turn.ended"))
        await ann.hear("turn.ended")
        mine = [one for one in ann.events() if one["seq"] > joined["seq"]]
        theirs = [{name: value for name, value in one.items() if name != "re"} for one in bob.events()]
        assert mine == theirs
        assert joined["current"]["text"] + bob.said(joined["current"]["turn"]) == TEXT
        assert (await on.get("/v1/calls"))["object"] == "list"
        await on.running.service.ledger.flush()
        async with aiohttp.ClientSession(on.running.url, headers={"Authorization": f"Bearer {BOB}"}) as client:
            async with client.get(f"/v1/calls/{second['call']}") as reply:
                assert (await reply.json())["caller"] == "bob"


async def test_a_turn_while_an_answer_is_given_waits_or_takes_its_place_or_is_refused() -> None:
    told = Told()
    async with stage(told) as on, connected(on) as ann:
        told.go(1)
        await ann.ask("turn.create", "turn.started", input="one")
        await ann.text("Once")
        queued = await ann.ask("turn.create", "turn.queued", input="two")
        wrong = await ann.ask("turn.create", "error", input="three", when_busy="refuse", id="r")
        assert (wrong["code"], wrong["re"]) == ("turn_in_progress", "r")
        await ann.say("turn.create", input="four", when_busy="interrupt")
        ended = await ann.hear("turn.ended")
        assert ended["ending"] == "cancelled"
        four = await ann.hear("turn.started")
        told.go(20)
        assert (await ann.hear("turn.ended"))["turn"] == four["turn"]
        assert (await ann.hear("turn.started"))["turn"] == queued["turn"]
        await ann.hear("turn.ended")
        assert asked(on)[2] == [
            ("user", "one"), ("assistant", "Once"), ("user", "four"), ("assistant", TEXT), ("user", "two")
        ]  # fmt: skip


async def test_an_input_waits_for_the_next_turn_or_makes_the_answer_begin_anew() -> None:
    told = Told()
    async with stage(told) as on, connected(on) as ann:
        added = await ann.ask("input.add", "input.added", input="first of all")
        assert added["waits"] is False
        told.go(1)
        await ann.ask("turn.create", "turn.started", input="one", options={"temperature": 0.5})
        await ann.text("Once")
        assert (await ann.ask("input.add", "input.added", input="by the way"))["waits"] is True
        await ann.say("input.add", input="no, otherwise", interrupt=True)
        assert (await ann.hear("turn.ended"))["ending"] == "cancelled"
        await ann.hear("turn.started")
        told.go(20)
        await ann.hear("turn.ended")
        assert asked(on)[1] == [
            ("user", "first of all"), ("user", "one"), ("assistant", "Once"), ("user", "no, otherwise"),
        ]  # fmt: skip
        assert on.provider.exchanges[1].json["temperature"] == 0.5, "asked as it was before"
        told.go(20)
        await ann.ask("turn.create", "turn.ended")
        assert asked(on)[2][-2:] == [("assistant", TEXT), ("user", "by the way")]


async def test_what_waits_may_be_taken_back_and_who_leaves_takes_it_along() -> None:
    told = Told()
    async with stage(told) as on, connected(on) as ann:
        opened = await ann.opened()
        await ann.ask("turn.create", "turn.started", input="one")
        two = await ann.ask("turn.create", "turn.queued", input="two")
        ended = await ann.ask("turn.cancel", "turn.ended", turn=two["turn"])
        assert (ended["turn"], ended["taken_back"]) == (two["turn"], True)
        async with connected(on) as other:
            await other.joined(opened["conversation"])
            three = await other.ask("turn.create", "turn.queued", input="three")
        assert (await ann.hear("turn.ended"))["turn"] == three["turn"]
        assert (await ann.hear("participant.left"))["participant"] == "p2"
        told.go(20)
        assert (await ann.hear("turn.ended"))["ending"] == "complete"
        assert len(on.provider.exchanges) == 1
        assert (await ann.ask("turn.cancel", "error"))["code"] == "turn_not_found"


async def test_a_turn_that_fails_before_a_word_leaves_nothing_behind() -> None:
    async def fails_once(exchange: Exchange) -> None:
        if len(on.provider.exchanges) == 1:
            await exchange.reply(b'{"error": {"message": "no", "type": "x"}}', 400)
        else:
            await exchange.stream(ROLE, delta(content="Yes"), STOP, DONE)

    async with stage(fails_once) as on, connected(on) as ann:
        ended = await ann.ask("turn.create", "turn.ended", input="x")
        assert (ended["taken_back"], ended["error"]["status"]) == (True, 400)
        await ann.ask("turn.create", "turn.ended", input="x")
        assert asked(on)[1] == [("user", "x")]


async def test_tools_are_called_and_answered_over_the_socket() -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    rest = {"index": 0, "function": {"arguments": '{"a":1}'}}
    finish = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\n'

    async def plays(exchange: Exchange) -> None:
        if len(on.provider.exchanges) == 1:
            await exchange.stream(ROLE, delta(tool_calls=[call]), delta(tool_calls=[rest]), finish, DONE)
        else:
            await exchange.stream(ROLE, delta(content="So."), STOP, DONE)

    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    async with stage(plays) as on, connected(on) as ann:
        ended = await ann.ask("turn.create", "turn.ended", input="x", options={"tools": tools})
        assert ended["finish_reason"] == "tool_calls"
        pieces = [one for one in ann.heard if one["type"] == "tool_call.delta"]
        assert (pieces[0]["id"], pieces[0]["name"], {one["index"] for one in pieces}) == ("c1", "f", {0})
        assert "".join(one.get("arguments", "") for one in pieces) == '{"a":1}'
        result = {"role": "tool", "tool_call_id": "c1", "content": "7"}
        await ann.ask("turn.create", "turn.ended", messages=[result], options={"tools": tools})
        sent = on.provider.exchanges[1].json["messages"]
        assert [one["role"] for one in sent] == ["user", "assistant", "tool"]
        assert sent[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}


async def test_plugins_hold_for_turns_as_for_streams() -> None:
    limit = {"use": "rate_limit", "settings": {"limits": [{"name": "a", "requests": 1, "period": "day"}]}}
    async with stage(Told(), limit) as on, connected(on) as ann:
        told = on.provider.script
        assert isinstance(told, Told)
        told.go(20)
        await ann.ask("turn.create", "turn.ended", input="x")
        ended = await ann.ask("turn.create", "turn.ended", input="y")
        assert (ended["ending"], ended["error"]["status"]) == ("refused", 429)
        assert ended["error"]["retry_after"] > 0
        assert len(on.provider.exchanges) == 1


# --- who may ----------------------------------------------------------------------------------------------------------


async def test_tenant_isolation_of_conversations() -> None:
    async with stage() as on, connected(on) as ann, connected(on, BOB) as bob:
        opened = await ann.opened()
        never = await bob.joined("0" * 32)
        assert never["code"] == "conversation_not_found"
        for invitation in (None, "x" * 32):
            assert await bob.joined(opened["conversation"], invitation=invitation) == never, "as one that never was"
        invitation = (await ann.ask("invitation.create", "invitation.created"))["invitation"]
        assert (await bob.joined(opened["conversation"], invitation=invitation))["type"] == "conversation.opened"
        for verb in ("invitation.create", "conversation.close"):
            assert (await bob.ask(verb, "error"))["code"] == "not_yours"
        await ann.say("conversation.close")
        assert await bob.closed() == (1000, "closed")
        assert (await ann.closed())[0] == 1000
        assert ann.heard[-1]["type"] == "conversation.closed"


async def test_a_turn_may_ask_only_models_that_its_key_may_see() -> None:
    async with stage() as on, connected(on) as ann:
        ended = await ann.ask("turn.create", "turn.ended", input="x", model="unknown")
        assert (ended["error"]["code"], ended["taken_back"]) == ("model_not_found", True)


async def test_a_socket_without_a_key_or_from_a_foreign_page_is_no_socket() -> None:
    async with stage() as on:
        for key, headers, status in (
            (None, {}, 401),
            ("sg-wrong", {}, 401),
            (ANN, {"Origin": "https://evil.example"}, 403),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with connected(on, key, **headers):
                    pass
            assert refused.value.status == status
        async with on.ann.get(PATH) as reply:
            assert reply.status == 426


async def test_a_ticket_opens_one_socket_in_the_name_of_who_asked_for_it() -> None:
    async with stage() as on:
        async with on.ann.post(PATH + "/ticket") as reply:
            assert (reply.status, reply.headers["Cache-Control"]) == (201, "no-store")
            ticket = await reply.json()
        async with aiohttp.ClientSession(on.running.url) as nobody, nobody.post(PATH + "/ticket") as reply:
            assert reply.status == 401
        async with connected(on, None, ticket["url"]) as page:
            started = await page.ask("turn.create", "turn.started", input="x")
            await page.hear("turn.ended")
        await on.running.service.ledger.flush()
        assert (await on.get(f"/v1/calls/{started['call']}"))["caller"] == "ann"
        for path in (ticket["url"], PATH + "?ticket=x"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with connected(on, None, path):
                    pass
            assert refused.value.status == 401, "it was good once"


async def test_a_key_may_come_as_a_subprotocol() -> None:
    async with stage() as on, aiohttp.ClientSession(on.running.url) as session:
        offered = ("sidegate.chat.v1", f"sidegate-api-key.{ANN}")
        async with session.ws_connect(PATH, protocols=offered) as socket:
            assert socket.protocol == "sidegate.chat.v1"
            await Client(socket).opened()


# --- bad input and bounds ---------------------------------------------------------------------------------------------


NONSENSE = [
    ("{", "invalid_message"),
    ('{"type": "turn.unknown"}', "invalid_message"),
    ('{"type": "turn.create", "input": 5}', "invalid_message"),
    ('{"type": "turn.create", "input": "x", "more": 1}', "invalid_message"),
    ("[" * 100_000, "invalid_message"),
    ('{"type": "turn.create"}', None),
    ('{"type": "turn.create", "input": "x", "messages": [{"role": "user", "content": "x"}]}', None),
    ('{"type": "turn.create", "messages": [{"role": "nobody", "content": "x"}]}', None),
    ('{"type": "turn.create", "messages": [5]}', None),
    ('{"type": "turn.create", "input": "x", "options": {"stream": false}}', None),
    ('{"type": "turn.create", "input": "x", "options": {"temperature": "hot"}}', None),
    ('{"type": "input.add"}', None),
    ('{"type": "conversation.open"}', "already_open"),
    ('{"type": "turn.cancel"}', "turn_not_found"),
]


async def test_what_makes_no_sense_is_said_and_the_connection_goes_on() -> None:
    async with stage() as on, connected(on) as ann:
        await ann.opened()
        for said, code in NONSENSE:
            await ann.socket.send_str(said)
            wrong = await ann.hear("error", "turn.started", "input.added")
            assert wrong["type"] == "error", said
            assert code in (None, wrong["code"]), said
        ended = await ann.ask("turn.create", "turn.ended", input="x")
        assert ended["ending"] == "complete"
        assert asked(on) == [[("user", "x")]], "nothing of it is part of the conversation"


async def test_binary_is_no_word_here() -> None:
    async with stage() as on, connected(on) as ann:
        await ann.socket.send_bytes(b"x")
        assert await ann.closed() == (1003, "text_only")


async def test_a_message_beyond_the_bound_and_silence_close_the_socket() -> None:
    async with stage(sockets={"max_message_bytes": 2048, "idle": 0.5}) as on, connected(on) as ann:
        await ann.socket.send_str("x" * 4096)
        assert (await ann.closed())[0] == 1009
        async with connected(on) as silent:
            assert await silent.closed() == (4408, "idle_timeout")


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        ({"max_messages": 2}, "conversation_too_long"),
        ({"max_bytes": 1024}, "conversation_too_long"),
    ],
)
async def test_a_conversation_is_bounded_and_says_so(bounds: dict[str, int], code: str) -> None:
    async with stage(conversations=bounds) as on, connected(on) as ann:
        await ann.ask("turn.create", "turn.ended", input="x")
        wrong = await ann.ask("turn.create", "error", input="x" * 1000)
        assert wrong["code"] == code


async def test_conversations_participants_and_waiting_turns_are_bounded() -> None:
    told = Told()
    bounds = {"per_caller": 1, "max_participants": 1, "max_waiting": 1}
    async with stage(told, conversations=bounds) as on, connected(on) as ann, connected(on) as again:
        opened = await ann.opened()
        assert (await again.ask("conversation.open", "error"))["code"] == "too_many_conversations"
        assert (await again.joined(opened["conversation"]))["code"] == "conversation_full"
        await ann.ask("turn.create", "turn.started", input="one")
        await ann.ask("turn.create", "turn.queued", input="two")
        assert (await ann.ask("turn.create", "error", input="three"))["code"] == "too_much_waiting"
        told.go(20)


async def test_who_reads_too_slowly_is_let_go_alone() -> None:
    async def much(exchange: Exchange) -> None:
        await exchange.stream(ROLE, *[delta(content="x" * 20_000) for _ in range(1500)], STOP, DONE)

    async with stage(much, conversations={"max_behind": 2**18}) as on, connected(on) as ann, connected(on) as slow:
        opened = await ann.opened()
        await slow.joined(opened["conversation"])
        transport = slow.socket._response.connection
        assert transport is not None
        assert transport.transport is not None
        transport.transport.pause_reading()
        ended = await ann.ask("turn.create", "turn.ended", input="x")
        assert ended["ending"] == "complete"
        left = [one for one in ann.heard if one["type"] == "participant.left"]
        if not left:
            await ann.hear("participant.left")
        transport.transport.resume_reading()
        assert await slow.closed() == (1013, "too_slow")


# --- coming back, and the end -----------------------------------------------------------------------------------------


async def test_who_comes_back_gets_what_was_missed() -> None:
    told = Told()
    async with stage(told) as on:
        async with connected(on) as ann:
            opened = await ann.opened()
            started = await ann.ask("turn.create", "turn.started", input="x")
            told.go(2)
            await ann.text("Once upon")
        told.go(20)
        await until(lambda: on.running.service.ground.house()._conversations[opened["conversation"]].running is None)
        async with connected(on) as back:
            joined = await back.joined(opened["conversation"], after=ann.heard[-1]["seq"])
            assert (joined["replayed"], "messages" in joined) == (True, False)
            await back.hear("turn.ended")
            assert ann.said(started["turn"]) + back.said(started["turn"]) == TEXT
        async with connected(on) as late:
            joined = await late.joined(opened["conversation"], after=99_999)
            assert ("replayed" in joined, len(joined["messages"])) == (False, 2), "what is not known starts anew"


async def test_an_answer_that_nobody_hears_is_stopped_and_an_empty_conversation_forgotten() -> None:
    told = Told()
    async with stage(told, conversations={"grace": 0, "keep": 1}) as on:
        async with connected(on) as ann:
            await ann.opened()
            await ann.ask("turn.create", "turn.started", input="x")
        await asyncio.wait_for(on.provider.exchanges[0].closed.wait(), 20)
        house = on.running.service.ground.house()
        await until(lambda: len(house) == 0)


async def test_on_its_way_out_the_gateway_lets_answers_end_and_says_that_it_goes() -> None:
    told = Told()
    async with stage(told) as on, connected(on) as ann, connected(on) as idle:
        await ann.ask("turn.create", "turn.started", input="x")
        await idle.socket.ping()
        stopping = asyncio.create_task(on.running.service.live.drain(20))
        assert await idle.closed() == (1001, "gateway_stopping")
        told.go(20)
        assert (await ann.hear("turn.ended"))["ending"] == "complete"
        assert await ann.closed() == (1001, "gateway_stopping")
        assert await stopping == 0


async def test_an_answer_that_outlasts_the_drain_is_told_as_stopped_before_the_socket_closes() -> None:
    told = Told()
    async with stage(told) as on, connected(on) as ann:
        await ann.ask("turn.create", "turn.started", input="x")
        stopping = asyncio.create_task(on.running.service.live.drain(0.05))
        assert (await ann.hear("turn.ended"))["ending"] == "gateway_stopping"
        assert (await ann.hear("conversation.closed"))["reason"] == "gateway_stopping"
        assert await ann.closed() == (1001, "gateway_stopping")
        assert await stopping == 2


async def test_a_route_that_does_not_list_it_has_no_chat_socket() -> None:
    async with stage(route={"deliveries": ["stream"]}) as on:
        async with on.ann.get(PATH) as reply:
            assert reply.status == 404


def test_its_words_are_those_of_the_schema() -> None:
    from sidegate.conversations.words import schema
    from tests.tree import ROOT

    kept = msgspec.json.decode((ROOT / "docs" / "chat-socket.json").read_bytes())
    assert kept == msgspec.json.decode(msgspec.json.encode(schema())), "run scripts/chat_socket.py"
