"""`jwt` in a gateway: both dialects, streamed and buffered, beside API keys, cut off, failing, with a slow issuer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from joserfc.jwk import RSAKey

from sidegate.errors import ConfigError
from sidegate.testing import demo_config, gateway
from tests.plugins.calls import passes_reply_and_error
from tests.plugins.jwt_issuer import Issuer, believed, issuer, lobby, rsa_key
from tests.plugins.test_through_the_gateway import (
    FAILING,
    KEYS,
    LOG,
    SECRET,
    SLOTS,
    SLOW,
    Client,
    everywhere,
    holding,
    leave,
)
from tests.relaying import until

BESIDE = {**KEYS, "settings": {**KEYS["settings"], "skip_named": True}}  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def key() -> RSAKey:
    return rsa_key("one")


def jwt(there: Issuer, claims: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    each = believed(there, claims=claims or {})
    return {"use": "sidegate_plugins.jwt:Jwt", "settings": {"issuers": [each], **settings}}


def today(there: Issuer, **claims: Any) -> str:
    """A token for the machine's own clock."""
    now = int(time.time())
    return there.token(iat=now, exp=now + 600, **claims)


@asynccontextmanager
async def served(dialect: str, stream: bool, *plugins: dict[str, Any], **rest: Any) -> AsyncIterator[Client]:
    async with gateway(demo_config(*plugins, **rest)) as running, aiohttp.ClientSession() as session:
        yield Client(running, session, dialect, stream)


@everywhere
async def test_a_call_with_a_token_is_answered_and_logged_without_it(key: RSAKey, dialect: str, stream: bool) -> None:
    async with issuer(key) as there, served(dialect, stream, LOG, jwt(there, {"team": "groups.0"})) as client:
        token = today(there, groups=["red"])
        for count in (1, 2):
            status, _, _ = await client.ask(key=token)
            line = await client.last_line(count)
            assert status == 200
            assert (line["caller"], line["team"], line["status"], line["ending"]) == ("ann", "red", 200, "complete")
        assert there.fetches == 1
        assert not any(part.encode() in client.running.log.data for part in token.split("."))


@everywhere
async def test_a_wrong_token_is_refused_in_the_clients_words(key: RSAKey, dialect: str, stream: bool) -> None:
    async with issuer(key) as there, served(dialect, stream, LOG, jwt(there)) as client:
        answers = {
            await said(client, token) for token in (today(there, aud="x"), there.token(exp=1), "sg-key", "a.b.c")
        }
        line = await client.last_line(4)
        assert len(answers) == 1, "one answer for every reason"
        ((status, challenge, is_anthropic),) = answers
        assert (status, challenge) == (401, 'Bearer error="invalid_token"')
        assert is_anthropic == (dialect == "anthropic")
        assert (line["ending"], line["error"], line["attempts"]) == ("refused", "invalid_token", [])
        reasons = {event["reason"] for event in client.running.log.events("token_refused")}
        assert reasons == {"audience", "expired", "malformed"}


async def said(client: Client, token: str) -> tuple[int, str, bool]:
    status, body, headers = await client.ask(key=token)
    assert b"invalid_token" in body or b"authentication_error" in body
    return status, headers["www-authenticate"], b'"type":"error"' in body


@everywhere
async def test_models_that_the_token_does_not_list_do_not_exist(key: RSAKey, dialect: str, stream: bool) -> None:
    async with issuer(key) as there, served(dialect, stream, jwt(there, {"models": "llm"})) as client:
        token = today(there, llm=["demo"])
        assert (await client.ask(key=token))[0] == 200
        assert (await client.ask(key=token, model="demo-2"))[0] == 404
        assert (await client.ask(key=today(there)))[0] == 404
        async with aiohttp.ClientSession() as session:
            url = f"{client.running.url}/v1/models"
            async with session.get(url, headers={"x-api-key": token}) as response:
                assert [model["id"] for model in (await response.json())["data"]] == ["demo"]


@everywhere
async def test_tokens_and_keys_stand_in_one_pipeline(key: RSAKey, dialect: str, stream: bool) -> None:
    async with issuer(key) as there:
        async with served(dialect, stream, LOG, jwt(there, pass_others=True), BESIDE) as client:
            for count, credential in enumerate((today(there, sub="by-token"), SECRET), 1):
                assert (await client.ask(key=credential))[0] == 200
                assert (await client.last_line(count))["caller"] == ("by-token", "ann")[count - 1]
            wrong_token, wrong_key = await client.ask(key=there.token(exp=1)), await client.ask(key="sg-wrong")
            assert wrong_token[2]["www-authenticate"] == 'Bearer error="invalid_token"'
            assert wrong_key[2]["www-authenticate"] == 'Bearer realm="sidegate"'
            assert (wrong_token[0], wrong_key[0]) == (401, 401)


@everywhere
async def test_a_client_that_leaves_is_logged_as_who_it_was(key: RSAKey, dialect: str, stream: bool) -> None:
    async with issuer(key) as there:
        async with served(dialect, stream, LOG, jwt(there, headers=["x-token"]), SLOTS, providers=SLOW) as client:
            token, post = today(there), client.post
            client.post = lambda *args, **more: post(*args, **{"x-token": token, **more})  # type: ignore[method-assign]
            await leave(client, stream)
            await holding(client.running, 0)
            line = await client.last_line()
            assert (line["ending"], line["caller"]) == ("client_gone", "ann")


@everywhere
async def test_what_breaks_further_in_is_none_of_its_business(key: RSAKey, dialect: str, stream: bool) -> None:
    async with issuer(key) as there, served(dialect, stream, LOG, jwt(there), FAILING) as client:
        for count in (1, 2):
            status, _, _ = await client.ask(key=today(there))
            line = await client.last_line(count)
            assert (status, line["ending"], line["error"]) == (200 if stream else 500, "failed", "plugin_error")


async def test_a_slow_issuer_is_waited_for_longer_than_a_plugin_may_take(key: RSAKey) -> None:
    """The bound on a plugin is 0.2 s here, and the wait is longer."""
    async with issuer(key) as there:
        there.gate.clear()
        use = jwt(there, on_issuer_down="wait")
        async with served("openai", False, LOG, use, server={"plugin_timeout": 0.2, "drain": 2}) as client:
            asking = [asyncio.ensure_future(client.ask(key=today(there, sub=f"c{n}"))) for n in range(100)]
            await until(lambda: len(client.running.service.live) == 100)
            await asyncio.sleep(0.7)  # two looks of the gateway's ticker, which would interrupt a plugin that is late
            there.gate.set()
            assert {status for status, _, _ in await asyncio.gather(*asking)} == {200}
            assert (there.discoveries, there.fetches) == (1, 1)


async def test_a_gateway_starts_without_its_issuer_only_where_it_may(key: RSAKey) -> None:
    async with issuer(key) as there:
        there.status = 500
        with pytest.raises(ConfigError, match=r"main\[0\]: cannot start: the keys of .* status 500"):
            async with served("openai", False, jwt(there)):
                pass
        async with served("openai", False, jwt(there, on_issuer_down="wait")) as client:
            status, body, headers = await client.ask(key=today(there))
            assert (status, headers["retry-after"]) == (503, "5")
            assert b"issuer_unavailable" in body
            assert b"500" not in body


@pytest.mark.parametrize("stream", [True, False])
async def test_the_reply_passes_as_it_is_and_an_error_too(key: RSAKey, stream: bool) -> None:
    async with issuer(key) as there, lobby(there) as hall:
        headers = {"authorization": f"Bearer {there.token()}"}
        caller = await passes_reply_and_error(hall.plugin, stream=stream, headers=headers)
        assert caller.name == "ann"


@pytest.mark.parametrize("length", [6000, 7900])
async def test_tokens_as_large_as_the_server_takes_a_header_come_through(key: RSAKey, length: int) -> None:
    async with issuer(key) as there, served("openai", False, jwt(there)) as client:
        token = today(there, fill="x" * ((length - len(today(there))) * 3 // 4))
        assert length - 40 < len(token) < length + 40
        assert (await client.ask(key=token))[0] == 200
