"""What OpenAI's own client raises when something goes wrong, and what the provider sees of a client that leaves."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, cast

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from sidegate.testing import Exchange, Running, demo_config
from tests.relaying import ROLE, USAGE, answers, delta, event
from tests.sdk.conftest import OpenAIClient
from tests.sdk.ground import Ground

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])

STATUSES = [
    (400, 400, openai.BadRequestError),
    (404, 404, openai.NotFoundError),
    (409, 409, openai.ConflictError),
    (413, 413, openai.APIStatusError),
    (422, 422, openai.UnprocessableEntityError),
    (429, 429, openai.RateLimitError),
    (500, 502, openai.InternalServerError),
    (502, 502, openai.InternalServerError),
    (503, 503, openai.InternalServerError),
    (504, 504, openai.InternalServerError),
    # The client's key was good; the gateway's was not.
    (401, 502, openai.InternalServerError),
    (403, 502, openai.InternalServerError),
]


@both
@pytest.mark.parametrize(("status", "told", "kind"), STATUSES, ids=[str(row[0]) for row in STATUSES])
def test_a_providers_status_becomes_the_clients_exception(
    ground: Ground, openai_at: OpenAIClient, status: int, told: int, kind: type[openai.APIStatusError], stream: bool
) -> None:
    said = {"error": {"message": "Said by it.", "type": "a_type", "param": "top_p", "code": "a_code"}}

    async def refuses(exchange: Exchange) -> None:
        await exchange.reply(json.dumps(said).encode(), status, X_Request_Id="req_provider")

    running, _ = ground.before(refuses)
    with pytest.raises(kind) as caught:
        openai_at(running).chat.completions.create(model="m", messages=HI, stream=stream)
    error = caught.value
    assert error.status_code == told
    if status < 500 and told == status:
        assert (error.code, error.type, error.param) == ("a_code", "a_type", "top_p")
        assert "Said by it." in error.message
    else:
        assert "Said by it." not in str(error.body)
    assert error.request_id
    assert ground.record(running, error.request_id)["status"] == told


@both
def test_a_rate_limit_says_when_to_come_back(ground: Ground, openai_at: OpenAIClient, stream: bool) -> None:
    async def limited(exchange: Exchange) -> None:
        body = b'{"error":{"message":"Slow down","type":"requests","code":"rate_limit_exceeded"}}'
        await exchange.reply(body, 429, Retry_After="17")

    running, _ = ground.before(limited)
    with pytest.raises(openai.RateLimitError) as caught:
        openai_at(running).chat.completions.create(model="m", messages=HI, stream=stream)
    assert caught.value.response.headers["retry-after"] == "17"
    assert caught.value.code == "rate_limit_exceeded"


@both
def test_a_missing_and_a_wrong_key_are_authentication_errors(
    ground: Ground, openai_at: OpenAIClient, stream: bool
) -> None:
    key = {"name": "app", "digest": "sha256:" + sha256(b"client-key").hexdigest()}
    running = ground.gateway(demo_config({"use": "api_key", "settings": {"keys": [key]}}))
    assert openai_at(running).models.list().data
    wrong = openai_at(running, api_key="another")
    with pytest.raises(openai.AuthenticationError) as caught:
        wrong.chat.completions.create(model="demo", messages=HI, stream=stream)
    assert caught.value.code == "invalid_api_key"
    assert "another" not in str(caught.value.body)
    with pytest.raises(openai.AuthenticationError):
        wrong.models.list()


def test_the_gateways_own_limit_is_a_rate_limit_error(ground: Ground, openai_at: OpenAIClient) -> None:
    limits = [{"name": "all", "requests": 1, "period": "hour"}]
    running = ground.gateway(demo_config({"use": "rate_limit", "settings": {"limits": limits}}))
    ai = openai_at(running)
    ai.chat.completions.create(model="demo", messages=HI)
    with pytest.raises(openai.RateLimitError) as caught:
        ai.chat.completions.create(model="demo", messages=HI)
    assert int(caught.value.response.headers["retry-after"]) > 60


def test_what_the_gateway_cannot_read_or_find_has_its_own_class(demo: Running, openai_at: OpenAIClient) -> None:
    ai = openai_at(demo)
    with pytest.raises(openai.NotFoundError) as missing:
        ai.chat.completions.create(model="nobody", messages=HI)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as bad:
        ai.chat.completions.create(model="demo", messages=cast("Any", "no list"))
    assert bad.value.param == "messages"
    with pytest.raises(openai.NotFoundError):
        ai.files.list()
    with pytest.raises(openai.BadRequestError):
        ai.chat.completions.create(model="demo", messages=HI, n=0)


@pytest.mark.parametrize("how", ["error event", "closed", "reset"])
def test_a_stream_that_breaks_raises_after_what_was_said(ground: Ground, openai_at: OpenAIClient, how: str) -> None:
    async def breaks(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="Half a "))
        if how == "error event":
            await exchange.chunk(event({"error": {"message": "it broke", "type": "server_error", "code": "x"}}))
            await exchange.chunk(b"")
        elif how == "reset":
            exchange.reset()
        else:
            exchange.close()

    running, _ = ground.before(breaks)
    raw = openai_at(running).chat.completions.with_raw_response.create(model="m", messages=HI, stream=True)
    said: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        said.extend(chunk.choices[0].delta.content or "" for chunk in raw.parse())
    assert not isinstance(caught.value, openai.APIConnectionError)
    assert caught.value.code == ("provider_error" if how == "error event" else "provider_cut")
    assert raw.headers["x-request-id"]
    record = ground.record(running, raw.headers["x-request-id"])
    assert record["ending"] == ("provider_error" if how == "error event" else "cut")
    assert record["estimated"]
    assert record["output_tokens"] > 0


def test_what_was_said_before_a_break_is_heard(ground: Ground, openai_at: OpenAIClient) -> None:
    async def breaks(exchange: Exchange) -> None:
        await exchange.stream(ROLE, delta(content="Half a "))

    running, _ = ground.before(breaks)
    chunks = iter(openai_at(running).chat.completions.create(model="m", messages=HI, stream=True))
    assert next(chunks).choices[0].delta.role == "assistant"
    assert next(chunks).choices[0].delta.content == "Half a "
    with pytest.raises(openai.APIError, match="stopped before its end"):
        next(chunks)


def test_a_stream_closed_early_closes_the_providers_connection(ground: Ground, openai_at: OpenAIClient) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(ROLE + delta(content="First "))
        await exchange.closed.wait()

    running, provider = ground.before(endless)
    raw = openai_at(running).chat.completions.with_raw_response.create(model="m", messages=HI, stream=True)
    with raw.parse() as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    ground.left(provider.exchanges[0])
    record = ground.record(running, raw.headers["x-request-id"])
    assert record["ending"] == "client_gone"
    assert (record["estimated"], record["state"]) == (True, "settled")


def test_a_client_that_times_out_has_left_too(ground: Ground, openai_at: OpenAIClient) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.closed.wait()

    running, provider = ground.before(silent)
    with pytest.raises(openai.APITimeoutError):
        openai_at(running, timeout=0.2).chat.completions.create(model="m", messages=HI)
    ground.left(provider.exchanges[0])


def test_a_silent_stream_shows_signs_of_life_that_the_client_skips(ground: Ground, openai_at: OpenAIClient) -> None:
    async def slow(exchange: Exchange) -> None:
        await ground.shown_alive(running)
        await answers(exchange)

    running, _ = ground.before(slow, server={"heartbeat": 0.01, "drain": 1})
    chunks = list(openai_at(running).chat.completions.create(model="m", messages=HI, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hé"


def test_nothing_of_the_client_or_the_provider_leaks(ground: Ground, openai_at: OpenAIClient) -> None:
    async def chatty(exchange: Exchange) -> None:
        await exchange.head(Set_Cookie="a=b", OpenAI_Organization="org-secret", X_Request_Id="theirs")
        await exchange.send(ROLE + delta(content="x") + delta("stop") + USAGE)
        exchange.close()

    running, provider = ground.before(chatty)
    raw = openai_at(running).chat.completions.with_raw_response.create(
        model="m", messages=HI, stream=True, extra_headers={"x-custom": "1"}
    )
    list(raw.parse())
    assert not {"set-cookie", "openai-organization"} & {name.lower() for name in raw.headers}
    assert raw.headers["x-request-id"] != "theirs"
    sent = provider.exchanges[0].headers
    assert sent["authorization"] == "Bearer sk-upstream-secret"
    assert not [name for name in sent if name.startswith("x-")]
    assert "openai" not in sent["user-agent"].lower()


def test_a_provider_that_recovers_answers_in_the_end(
    ground: Ground, openai_at: OpenAIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def recovers(exchange: Exchange) -> None:
        if len(provider.exchanges) == 1:
            await exchange.reply(b'{"error":{"message":"busy"}}', 503)
        else:
            await answers(exchange)

    for client in (openai.OpenAI, openai.AsyncOpenAI):
        monkeypatch.setattr(client, "_calculate_retry_timeout", lambda *_: 0)
    running, provider = ground.before(recovers)
    reply = openai_at(running, max_retries=2).chat.completions.create(model="m", messages=HI)
    assert reply.choices[0].message.content == "Hé"
    assert len(provider.exchanges) == 2
