"""Counting tokens: the provider's own count, in Anthropic's words and in Gemini's, and it costs nothing."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import msgspec
import pytest

from sidegate.contract.meaning import Usage
from sidegate.errors import ProviderError, ReplyError
from sidegate.testing import Exchange
from sidegate.wire.body import read_fields
from sidegate.wire.registry import DIALECTS
from tests.sdk.ground import Ground
from tests.wire.recordings import Case, parameters
from tests.wire.saying import ENVELOPE

ANTHROPIC, GEMINI = DIALECTS["anthropic.count_tokens"], DIALECTS["gemini.count_tokens"]
BOTH = pytest.mark.parametrize("name", ["anthropic.count_tokens", "gemini.count_tokens"])


@BOTH
@pytest.mark.parametrize("body", [b"", b"[]", b"oops", b'{"a": 1}', b'{"totalTokens": -1, "input_tokens": "x"}'])
def test_what_is_no_count_is_no_reply(name: str, body: bytes) -> None:
    dialect = DIALECTS[name]
    with pytest.raises(ReplyError):
        dialect.meter().whole(body)
    with pytest.raises(ReplyError):
        dialect.read_whole(body)
    with pytest.raises(ReplyError):
        dialect.meter().event(b"data: {}\n\n")
    with pytest.raises(ReplyError):
        dialect.read_event(b"data: {}\n\n")


def test_an_error_is_told_as_one() -> None:
    with pytest.raises(ProviderError):
        ANTHROPIC.meter().whole(b'{"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}')
    with pytest.raises(ProviderError):
        GEMINI.meter().whole(b'{"error": {"code": 429, "message": "x"}}')


def test_a_count_goes_over() -> None:
    for dialect, body in ((ANTHROPIC, b'{"input_tokens": 12}'), (GEMINI, b'{"totalTokens": 12}')):
        meter = dialect.meter()
        meter.whole(body)
        assert (meter.usage, meter.finished) == (Usage(0, 0), True)
        for other, key in ((ANTHROPIC, "input_tokens"), (GEMINI, "totalTokens")):
            assembler = other.assembler(ENVELOPE)
            assembler.add(dialect.read_whole(body))
            assert json.loads(assembler.body()) == {key: 12}
        assert dialect.encoder(ENVELOPE).encode(dialect.read_whole(body)) == b""


def test_the_request_says_what_bears_on_the_count() -> None:
    body = {"model": "m", "system": "s", "messages": [{"role": "user", "content": "hi"}]}
    request = ANTHROPIC.read_request(read_fields(msgspec.json.encode(body)))
    assert request.max_tokens is None
    written = GEMINI.write_request(request, [])["generateContentRequest"]
    assert json.loads(msgspec.json.encode(written)) == {
        "model": "models/m",
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "systemInstruction": {"parts": [{"text": "s"}]},
    }
    more = msgspec.structs.replace(request, temperature=0.5, stop=("x",), max_tokens=5)
    assert ANTHROPIC.write_request(more, []) == body


@pytest.mark.parametrize("case", parameters("anthropic/count-"))
def test_a_recorded_count_is_read(case: Case) -> None:
    meter = ANTHROPIC.meter()
    meter.whole(case.body)
    assert meter.usage == Usage(0, 0)
    assert len(ANTHROPIC.read_whole(case.body)) == 3


@pytest.fixture
def ground() -> Any:
    made = Ground()
    yield made
    made.close()


@pytest.mark.parametrize("dialect", ["anthropic", "gemini"])
def test_anthropics_client_counts(ground: Ground, dialect: str) -> None:

    async def says(exchange: Exchange) -> None:
        await exchange.reply(b'{"input_tokens": 12}' if dialect == "anthropic" else b'{"totalTokens": 12}')

    running, provider = ground.before(says, dialect)
    with anthropic.Anthropic(base_url=running.url, api_key="k", max_retries=0) as ai:
        told = ai.messages.count_tokens(model="m", messages=[{"role": "user", "content": "hi"}])
    assert told.input_tokens == 12
    path = "/v1/messages/count_tokens" if dialect == "anthropic" else "/v1beta/models/real:countTokens"
    assert provider.exchanges[0].path == path
