"""How sessions end: by either side, by whoever cancels, by the gateway; and what is on record then."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import aiohttp
import pytest

from sidegate.errors import Cancelled, Ending
from sidegate.realtime.relay import _url
from sidegate.settings import Provider
from sidegate.testing import Running, closed_port
from tests.realtime.ground import COST, KEY, REFUSED, closed, cost, events, gateway_for, keys, rows, session, status
from tests.realtime.provider import PIECE, USAGE, Voice, conversation, realtime_provider

LONG = {"metadata": {"pieces": "100000", "between": "0.005"}}


async def test_a_provider_that_cannot_be_reached_is_a_bad_gateway_before_the_session_opens() -> None:
    async with realtime_provider() as provider:
        provider.url = closed_port() + "/v1"
        async with gateway_for(provider) as running:
            with pytest.raises(REFUSED) as caught:
                async with session(running):
                    pass
            assert status(caught.value) == 502
            [line] = await rows(running, 1)
            assert (line["error"], line["cost_nano_usd"]) == ("provider_unreachable", 0)


async def test_another_target_takes_the_place_of_one_that_opens_no_session() -> None:
    async with realtime_provider(refuse=503) as broken, realtime_provider() as provider:
        providers = {
            name: {"dialect": "openai", "base_url": each.url, "api_key": "k", "circuit": None, "retry": {"attempts": 1}}
            for name, each in (("a", broken), ("b", provider))
        }
        models = {"voice": [{"provider": "a", "model": "gpt-realtime"}, {"provider": "b", "model": "gpt-realtime"}]}
        async with gateway_for(provider, providers=providers, models=models) as running:
            async with session(running) as connection:
                await connection.recv()
            [line] = await rows(running, 1)
        assert [attempt["provider"] for attempt in line["attempts"]] == ["a", "b"]
        assert line["attempts"][0]["status"] == 503


@pytest.mark.parametrize(
    ("code", "told", "ending"), [(1000, 1000, "complete"), (4001, 4001, "cut"), (1011, 1011, "cut"), (0, 1014, "cut")]
)
async def test_the_provider_closes_and_the_client_is_told_as_it_was(code: int, told: int, ending: str) -> None:
    async def behaviour(voice: Voice, event: dict[str, Any]) -> None:
        response = await voice.created()
        await voice.piece(response)
        if code:
            await voice.socket.close(code=code, message=b"the reason")
        else:
            assert voice.socket._req is not None
            assert voice.socket._req.transport is not None
            voice.socket._req.transport.abort()

    async with realtime_provider(behaviour) as provider, gateway_for(provider, keys(), cost()) as running:
        async with session(running) as connection:
            await connection.response.create()
            assert (await closed(connection))[0] == told
        lines = {line["operation"]: line for line in await rows(running, 2)}
        assert lines["realtime"]["ending"] == ending
        answer = lines["realtime_response"]
        # It was cut: what it used is estimated, and marked.
        assert answer["ending"] == "cut"
        assert answer["usage_estimated"]
        assert answer["output_tokens"] > 0


@pytest.mark.parametrize("more", ["", r',"metadata":{"note":"\ud800"}'], ids=["plain", "half a character"])
async def test_an_answer_that_is_told_twice_is_charged_once(more: str) -> None:
    async def behaviour(voice: Voice, event: dict[str, Any]) -> None:
        response = await voice.created()
        await voice.piece(response)
        usage = '"usage":{"input_tokens":5,"output_tokens":6,"total_tokens":11}'
        for _ in range(2):
            said = f'{{"id":"{response}","status":"completed",{usage}{more}}}'
            await voice.socket.send_str(f'{{"type":"response.done","event_id":"e","response":{said}}}')

    async with realtime_provider(behaviour) as provider, gateway_for(provider, keys(), cost()) as running:
        async with session(running) as connection:
            await connection.response.create()
            await events(connection, "response.done")
            await events(connection, "response.done")
        lines = [line for line in await rows(running, 2) if line["operation"] == "realtime_response"]
    assert [(line["input_tokens"], line["output_tokens"], line["ending"]) for line in lines] == [(5, 6, "complete")]


async def test_a_client_that_leaves_stops_the_answer_and_what_it_used_is_still_heard() -> None:
    async with realtime_provider() as provider, gateway_for(provider, keys(), cost()) as running:
        async with session(running) as connection:
            await connection.response.create(response=LONG)
            await events(connection, "response.output_audio.delta")
        lines = {line["operation"]: line for line in await rows(running, 2)}
        assert lines["realtime_response"]["cost_nano_usd"] == COST
        assert lines["realtime_response"]["ending"] == "cancelled"
        assert lines["realtime"]["ending"] == "complete"
        assert provider.voices[0].heard[-1] == {"type": "response.cancel", "response_id": "resp_1"}


async def test_where_the_route_drains_the_answer_is_heard_to_its_end() -> None:
    async with (
        realtime_provider() as provider,
        gateway_for(provider, cost(), route={"on_disconnect": "drain"}) as running,
    ):
        async with session(running) as connection:
            await connection.response.create(response={"metadata": {"pieces": "20", "between": "0.01"}})
            await events(connection, "response.output_audio.delta")
        lines = {line["operation"]: line for line in await rows(running, 2)}
        assert (lines["realtime_response"]["ending"], lines["realtime_response"]["cost_nano_usd"]) == ("complete", COST)


async def test_whoever_started_a_session_cancels_it_by_its_id() -> None:
    async with realtime_provider() as provider, gateway_for(provider, keys(), cost()) as running:
        async with session(running) as connection, aiohttp.ClientSession() as http:
            await connection.response.create(response=LONG)
            await events(connection, "response.output_audio.delta")
            mine = {"Authorization": f"Bearer {KEY}"}
            async with http.get(running.url + "/v1/calls", headers=mine) as response:
                calls = {call["operation"]: call["id"] for call in (await response.json())["data"]}
            assert set(calls) == {"realtime", "realtime_response"}
            async with http.delete(f"{running.url}/v1/calls/{calls['realtime']}", headers=mine) as response:
                assert (await response.json())["ending"] == "cancelled"
            assert await closed(connection) == (4499, "cancelled")
        kept = await running.service.ledger.call(calls["realtime_response"])
        assert kept is not None
        assert (kept[0].ending, kept[0].cost_nano_usd) == ("cancelled", COST)


async def test_one_answer_is_cancelled_by_its_id_and_the_session_goes_on() -> None:
    async with realtime_provider() as provider, gateway_for(provider, keys(), cost()) as running:
        async with session(running) as connection, aiohttp.ClientSession() as http:
            await connection.response.create(response=LONG)
            await events(connection, "response.output_audio.delta")
            mine = {"Authorization": f"Bearer {KEY}"}
            async with http.get(running.url + "/v1/calls", headers=mine) as response:
                calls = {call["operation"]: call["id"] for call in (await response.json())["data"]}
            async with http.delete(f"{running.url}/v1/calls/{calls['realtime_response']}", headers=mine) as response:
                assert (await response.json())["ending"] == "cancelled"
            assert (await events(connection, "response.done"))[-1].response.status == "cancelled"
            await connection.response.create()
            assert (await events(connection, "response.done"))[-1].response.status == "completed"
            kept = await running.service.ledger.call(calls["realtime_response"])
            assert kept is not None
            assert kept[0].cost_nano_usd == COST


async def test_a_gateway_that_stops_lets_an_answer_end_and_says_that_it_goes_away() -> None:
    async with realtime_provider() as provider, gateway_for(provider, cost(), server={"drain": 20}) as running:
        async with session(running) as connection:
            await connection.response.create(response={"metadata": {"pieces": "40", "between": "0.01"}})
            await events(connection, "response.output_audio.delta")
            draining = asyncio.create_task(running.service.live.drain(20))
            assert (await events(connection, "response.done"))[-1].response.status == "completed"
            assert await closed(connection) == (1001, "gateway_stopping")
            assert await draining == 0
        lines = {line["operation"]: line for line in await rows(running, 2)}
        assert lines["realtime_response"]["cost_nano_usd"] == COST
        assert lines["realtime"]["ending"] == "gateway_stopping"


async def test_a_response_that_the_provider_refuses_costs_nothing() -> None:
    async with realtime_provider() as provider, gateway_for(provider, cost()) as running:
        async with session(running) as connection:
            await connection.response.create(response=LONG)
            await events(connection, "response.output_audio.delta")
            await connection.response.create()
            assert (await events(connection, "error"))[-1].error.code == "conversation_already_has_active_response"
            [line] = await rows(running, 1)
            assert (line["error"], line["cost_nano_usd"]) == ("conversation_already_has_active_response", 0)


async def test_a_silent_provider_costs_what_is_unknown_and_never_nothing() -> None:
    async def silent(voice: Voice, event: dict[str, Any]) -> None:
        """Hears, and says nothing."""

    async with (
        realtime_provider(silent) as provider,
        gateway_for(provider, cost(), sockets={"closing": 0.2}) as running,
    ):
        async with session(running) as connection:
            await connection.response.create()
            await (await provider.voice()).until("response.create")
        lines = {line["operation"]: line for line in await rows(running, 2)}
        assert (lines["realtime_response"]["output_tokens"], lines["realtime_response"]["cost_nano_usd"]) == (
            None,
            None,
        )


async def standing_still(running: Running) -> None:
    """Returns when the session's client has taken nothing for a while."""
    async with asyncio.timeout(10):
        while True:
            since = running.service.live.all()[0].outlet.sink.blocked_since
            await asyncio.sleep(0.2)
            if since and running.service.live.all()[0].outlet.sink.blocked_since == since:
                return


async def test_a_client_that_takes_nothing_stops_the_provider_and_is_cut_in_time() -> None:
    sent = 0

    async def pouring(voice: Voice, event: dict[str, Any]) -> None:
        nonlocal sent
        if event["type"] != "response.create":
            return
        response = await voice.created()
        for _ in range(4000):
            await voice.piece(response)
            sent += 1
        await voice.done(response)

    server = {"send_timeout": 1, "drain": 3}
    async with realtime_provider(pouring) as provider, gateway_for(provider, cost(), server=server) as running:
        async with aiohttp.ClientSession() as http:
            url = running.url + "/v1/realtime?model=voice"
            socket = await http.ws_connect(url, max_msg_size=0)
            await socket.send_str('{"type":"response.create"}')
            await standing_still(running)
            # 51 MB were to come; what is between here and there is bounded.
            assert 0 < sent < 2500
            lines = {line["operation"]: line for line in await rows(running, 2)}
            assert lines["realtime"]["ending"] == "client_gone"
            await socket.close()


async def test_a_provider_that_takes_nothing_stops_the_client() -> None:
    async def deaf(voice: Voice, event: dict[str, Any]) -> None:
        """Takes nothing any more."""
        await asyncio.Event().wait()

    async with realtime_provider(deaf) as provider, gateway_for(provider) as running:
        async with aiohttp.ClientSession() as http:
            socket = await http.ws_connect(running.url + "/v1/realtime?model=voice", max_msg_size=0)
            sent = 0

            async def pour() -> None:
                nonlocal sent
                for _ in range(4000):
                    await socket.send_str(f'{{"type":"input_audio_buffer.append","audio":"{PIECE}"}}')
                    sent += 1

            pouring = asyncio.create_task(pour())
            before = -1
            while sent != before or not sent:
                before = sent
                await asyncio.sleep(0.5)
            assert not pouring.done()
            assert 0 < sent < 2500
            pouring.cancel()
            running.service.live.all()[0].stop(Cancelled(Ending.CANCELLED))
            await socket.close()


async def test_what_the_client_says_gets_through_while_it_takes_nothing() -> None:
    """Barge-in: each way at its own pace."""

    async def pouring(voice: Voice, event: dict[str, Any]) -> None:
        if event["type"] == "response.create":
            voice.begin(pieces=100_000)
        else:
            await conversation(voice, event)

    async with realtime_provider(pouring) as provider, gateway_for(provider, cost()) as running:
        async with aiohttp.ClientSession() as http:
            socket = await http.ws_connect(running.url + "/v1/realtime?model=voice", max_msg_size=0)
            await socket.send_str('{"type":"response.create"}')
            voice = await provider.voice()
            await voice.until("response.create")
            await standing_still(running)
            await socket.send_str('{"type":"response.cancel"}')
            await voice.until("response.cancel")
            await socket.close()


async def test_the_report_of_use_is_what_the_provider_has_in_its_books() -> None:
    async with realtime_provider() as provider, gateway_for(provider, keys(), cost()) as running:
        async with session(running) as connection:
            for _ in range(3):
                await connection.response.create()
                await events(connection, "response.done")
        await rows(running, 4)
        await running.service.ledger.flush()
        async with aiohttp.ClientSession() as http:
            url = running.url + "/v1/usage?by=operation"
            async with http.get(url, headers={"Authorization": f"Bearer {KEY}"}) as response:
                found = {row["operation"]: row for row in (await response.json())["data"]}
        assert found["realtime_response"]["calls"] == 3
        assert found["realtime_response"]["input_tokens"] == 3 * int(str(USAGE["input_tokens"]))
        assert round(float(found["realtime_response"]["cost_usd"]) * 10**9) == 3 * COST
        assert (found["realtime"]["calls"], float(found["realtime"]["cost_usd"])) == (1, 0)


async def test_a_provider_that_answers_no_ping_is_lost() -> None:
    async def deaf(voice: Voice, event: dict[str, Any]) -> None:
        """Takes nothing any more, not even pings."""
        await asyncio.Event().wait()

    sockets = {"ping": 0.1, "pong": 0.3}
    async with realtime_provider(deaf) as provider, gateway_for(provider, cost(), sockets=sockets) as running:
        async with session(running) as connection:
            await connection.session.update(session={"type": "realtime"})
            assert await closed(connection) == (1014, "The provider's connection was lost.")
        [line] = await rows(running, 1)
        assert line["ending"] == "cut"


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"base_url": "https://api.openai.com/v1"}, "https://api.openai.com/v1/realtime?model=gpt+x"),
        (
            {
                "base_url": "https://r.openai.azure.com/openai",
                "deployment_paths": True,
                "api_version": "2025-04-01-preview",
            },
            "https://r.openai.azure.com/openai/realtime?api-version=2025-04-01-preview&deployment=gpt+x",
        ),
    ],
)
def test_where_a_session_is_opened(settings: dict[str, Any], asked: str) -> None:
    assert _url(Provider(dialect="openai", **settings), "gpt x", "") == asked


def test_what_no_route_names_is_not_loaded() -> None:
    code = (
        "import sys, sidegate.http.app, sidegate.gateway\n"
        "late = ('sidegate.realtime', 'sidegate.sockets', 'sidegate.upstream.socket')\n"
        "found = [name for name in sys.modules if name.startswith(late)]\n"
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
