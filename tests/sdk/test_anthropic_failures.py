"""What Anthropic's own client raises when something goes wrong, and what the provider sees of a client that leaves."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, cast

import anthropic
import pytest
from anthropic.types import MessageParam

from sidegate.testing import Exchange, Running, demo_config
from tests.sdk.conftest import AnthropicClient
from tests.sdk.ground import Ground
from tests.sdk.scripts import anthropic_events, anthropic_says, in_pieces, named

HI: list[MessageParam] = [{"role": "user", "content": "hi"}]
both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])

STATUSES = [
    (400, 400, anthropic.BadRequestError, "invalid_request_error"),
    (404, 404, anthropic.NotFoundError, "not_found_error"),
    (409, 409, anthropic.ConflictError, "invalid_request_error"),
    (413, 413, anthropic.APIStatusError, "request_too_large"),
    (422, 422, anthropic.UnprocessableEntityError, "invalid_request_error"),
    (429, 429, anthropic.RateLimitError, "rate_limit_error"),
    (500, 502, anthropic.InternalServerError, "api_error"),
    (503, 503, anthropic.InternalServerError, "overloaded_error"),
    (504, 504, anthropic.InternalServerError, "timeout_error"),
    (529, 503, anthropic.InternalServerError, "overloaded_error"),
    # The client's key was good; the gateway's was not.
    (401, 502, anthropic.InternalServerError, "api_error"),
    (403, 502, anthropic.InternalServerError, "api_error"),
]


@both
@pytest.mark.parametrize(("status", "told", "kind", "word"), STATUSES, ids=[str(row[0]) for row in STATUSES])
def test_a_providers_status_becomes_the_clients_exception(
    ground: Ground,
    anthropic_at: AnthropicClient,
    status: int,
    told: int,
    kind: type[anthropic.APIStatusError],
    word: str,
    stream: bool,
) -> None:
    async def refuses(exchange: Exchange) -> None:
        body = {"type": "error", "error": {"type": "a_type", "message": "Said by it."}, "request_id": "req_theirs"}
        await exchange.reply(json.dumps(body).encode(), status, Request_Id="req_theirs")

    running, _ = ground.before(refuses, "anthropic")
    with pytest.raises(kind) as caught:
        anthropic_at(running).messages.create(model="m", max_tokens=50, messages=HI, stream=stream)
    error = caught.value
    assert error.status_code == told
    assert error.type == word
    assert ("Said by it." in str(error.api_message)) == (status == told < 500)
    assert error.request_id
    assert cast("Any", error.body)["request_id"] == error.request_id
    assert ground.record(running, error.request_id)["status"] == told


def test_the_classes_of_overload_are_told_apart(ground: Ground, anthropic_at: AnthropicClient) -> None:
    async def overloaded(exchange: Exchange) -> None:
        await exchange.reply(b"overloaded", 529, "text/plain", Retry_After="13")

    running, _ = ground.before(overloaded, "anthropic")
    with pytest.raises(anthropic.APIStatusError) as caught:
        anthropic_at(running).messages.create(model="m", max_tokens=50, messages=HI)
    assert type(caught.value).__name__ == "ServiceUnavailableError"
    assert caught.value.response.headers["retry-after"] == "13"


@both
def test_a_missing_and_a_wrong_key_are_authentication_errors(
    ground: Ground, anthropic_at: AnthropicClient, stream: bool
) -> None:
    key = {"name": "app", "digest": "sha256:" + sha256(b"client-key").hexdigest()}
    running = ground.gateway(demo_config({"use": "api_key", "settings": {"keys": [key]}}))
    assert anthropic_at(running).models.list().data
    older = anthropic_at(running, api_key="nothing")
    with pytest.raises(anthropic.AuthenticationError) as caught:
        older.messages.create(model="demo", max_tokens=50, messages=HI, stream=stream)
    assert caught.value.type == "authentication_error"
    # What SDKs before 2.0 and other vendors' clients send.
    headers = {"x-api-key": "client-key", "authorization": anthropic.Omit(), "anthropic-version": "2023-06-01"}
    message = older.messages.create(model="demo", max_tokens=50, messages=HI, extra_headers=cast("Any", headers))
    assert message.content


def test_the_gateways_own_limit_is_a_rate_limit_error(ground: Ground, anthropic_at: AnthropicClient) -> None:
    limits = [{"name": "all", "requests": 1, "period": "hour"}]
    running = ground.gateway(demo_config({"use": "rate_limit", "settings": {"limits": limits}}))
    ai = anthropic_at(running)
    ai.messages.create(model="demo", max_tokens=50, messages=HI)
    with pytest.raises(anthropic.RateLimitError) as caught:
        ai.messages.create(model="demo", max_tokens=50, messages=HI)
    assert int(caught.value.response.headers["retry-after"]) > 60


def test_what_the_gateway_cannot_read_or_find_has_its_own_class(demo: Running, anthropic_at: AnthropicClient) -> None:
    ai = anthropic_at(demo)
    with pytest.raises(anthropic.NotFoundError):
        ai.messages.create(model="nobody", max_tokens=50, messages=HI)
    with pytest.raises(anthropic.BadRequestError) as caught:
        ai.messages.create(model="demo", max_tokens=50, messages=cast("Any", "no list"))
    assert "messages" in str(caught.value.api_message)
    with pytest.raises(anthropic.NotFoundError) as path:
        ai.messages.batches.list()
    assert path.value.type == "not_found_error"


@pytest.mark.parametrize("how", ["error event", "closed", "reset"])
def test_a_stream_that_breaks_raises_after_what_was_said(
    ground: Ground, anthropic_at: AnthropicClient, how: str
) -> None:
    async def breaks(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(anthropic_events()[:5]))
        if how == "error event":
            await exchange.chunk(named("error", error={"type": "overloaded_error", "message": "Overloaded"}))
            await exchange.chunk(b"")
        elif how == "reset":
            exchange.reset()
        else:
            exchange.close()

    running, _ = ground.before(breaks, "anthropic")
    raw = anthropic_at(running).messages.with_raw_response.create(model="m", max_tokens=50, messages=HI, stream=True)
    seen: list[str] = []
    with pytest.raises(anthropic.APIStatusError) as caught:
        seen.extend(event.type for event in raw.parse())
    # The status has long been sent: the class is the error's, by its words.
    assert caught.value.status_code == 200
    assert caught.value.type == ("overloaded_error" if how == "error event" else "api_error")
    assert cast("Any", caught.value.body)["request_id"] == raw.headers["request-id"]
    record = ground.record(running, raw.headers["request-id"])
    assert record["ending"] == ("provider_error" if how == "error event" else "cut")
    assert record["input_tokens"] == 7


def test_a_stream_closed_early_closes_the_providers_connection(ground: Ground, anthropic_at: AnthropicClient) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(Transfer_Encoding="chunked")
        await exchange.chunk(b"".join(anthropic_events()[:5]))
        await exchange.closed.wait()

    running, provider = ground.before(endless, "anthropic")
    with anthropic_at(running).messages.stream(model="m", max_tokens=50, messages=HI) as stream:
        for _ in stream.text_stream:
            break
        request_id = stream.request_id
    ground.left(provider.exchanges[0])
    record = ground.record(running, request_id or "")
    assert (record["ending"], record["state"]) == ("client_gone", "settled")


def test_a_client_that_times_out_has_left_too(ground: Ground, anthropic_at: AnthropicClient) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.closed.wait()

    running, provider = ground.before(silent, "anthropic")
    with pytest.raises(anthropic.APITimeoutError):
        anthropic_at(running, timeout=0.2).messages.create(model="m", max_tokens=50, messages=HI)
    ground.left(provider.exchanges[0])


def test_a_silent_stream_shows_signs_of_life_that_the_client_skips(
    ground: Ground, anthropic_at: AnthropicClient
) -> None:
    async def slow(exchange: Exchange) -> None:
        await ground.shown_alive(running)
        await in_pieces(exchange, b"".join(anthropic_events()))

    running, _ = ground.before(slow, "anthropic", server={"heartbeat": 0.01, "drain": 1})
    with anthropic_at(running).messages.stream(model="m", max_tokens=50, messages=HI) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["text", "tool_use", "tool_use"]


def test_a_provider_that_recovers_answers_in_the_end(
    ground: Ground, anthropic_at: AnthropicClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def recovers(exchange: Exchange) -> None:
        if len(provider.exchanges) == 1:
            await exchange.reply(b"busy", 529, "text/plain")
        else:
            await anthropic_says(exchange)

    for client in (anthropic.Anthropic, anthropic.AsyncAnthropic):
        monkeypatch.setattr(client, "_calculate_retry_timeout", lambda *_: 0)
    running, provider = ground.before(recovers, "anthropic")
    message = anthropic_at(running, max_retries=2).messages.create(model="m", max_tokens=50, messages=HI)
    assert len(message.content) == 3
    assert len(provider.exchanges) == 2
