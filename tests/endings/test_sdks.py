"""What the vendors' own clients raise for each ending: the class, and in it what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

from sidegate.errors import Cancelled, Ending, GatewayStopping, SidegateError
from sidegate.testing import MISBEHAVIOURS, Running, ScriptedProvider
from sidegate.testing.voices import WORDS
from tests.endings.expected import BROKEN
from tests.endings.ground import leads
from tests.sdk.conftest import AnthropicClient, OpenAIClient
from tests.sdk.ground import Ground

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])

NAMES = (
    "never_answers",
    "silent_in_mid_stream",
    "reset_in_mid_stream",
    "bad_chunk_size",
    "ends_without_finish",
    "ends_inside_an_event",
    "nonsense_in_mid_stream",
    "error_first",
    "error_in_mid_stream",
    "dropped",
    "rate_limited",
    "overloaded",
    "bad_request",
    "echoes_the_key",
    "html",
    "redirects",
)
OPENAI_CLASSES: dict[int, type[openai.APIError]] = {
    400: openai.BadRequestError,
    429: openai.RateLimitError,
    502: openai.InternalServerError,
    503: openai.InternalServerError,
    504: openai.InternalServerError,
}
ANTHROPIC_CLASSES: dict[int, type[anthropic.APIError]] = {
    400: anthropic.BadRequestError,
    429: anthropic.RateLimitError,
    502: anthropic.InternalServerError,
    503: anthropic.InternalServerError,
    504: anthropic.InternalServerError,
}
ANTHROPIC_WORDS = {502: "api_error", 503: "overloaded_error", 504: "timeout_error", 499: "invalid_request_error"}
"""What an error event says of the status it would have been."""


def before(ground: Ground, name: str, dialect: str, **config: Any) -> tuple[Running, ScriptedProvider]:
    provider = ground.provider(MISBEHAVIOURS[name](dialect))
    return ground.gateway(leads(provider.url, dialect, **config)), provider


def asked_of_openai(ai: openai.OpenAI, stream: bool) -> Iterator[str]:
    reply: Any = ai.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}], stream=stream
    )  # one overload a delivery
    if stream:
        yield from (chunk.choices[0].delta.content for chunk in reply if chunk.choices[0].delta.content)
    else:
        yield reply.choices[0].message.content


def asked_of_anthropic(ai: anthropic.Anthropic, stream: bool) -> Iterator[str]:
    reply: Any = ai.messages.create(
        model="m", max_tokens=50, messages=[{"role": "user", "content": "hi"}], stream=stream
    )
    if stream:
        yield from (event.delta.text for event in reply if event.type == "content_block_delta")
    else:
        yield reply.content[0].text


@both
@pytest.mark.parametrize("name", NAMES)
def test_openais_client_raises_the_class_of_the_ending(
    ground: Ground, openai_at: OpenAIClient, name: str, stream: bool
) -> None:
    end = BROKEN[name][0 if stream else 1]
    running, provider = before(ground, name, "openai")
    said: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        said.extend(asked_of_openai(openai_at(running), stream))
    error = caught.value
    if end.status == 200:
        assert type(error) is openai.APIError, "not a connection error: the SDK was told"
        assert "".join(said) == WORDS[0] + WORDS[1]
    else:
        assert isinstance(error, OPENAI_CLASSES[end.status])
        assert error.status_code == end.status  # type: ignore[attr-defined]  # a status error
    assert str(error.code).startswith(end.code)
    assert len(provider.exchanges) == 1


@both
@pytest.mark.parametrize("name", NAMES)
def test_anthropics_client_raises_the_class_of_the_ending(
    ground: Ground, anthropic_at: AnthropicClient, name: str, stream: bool
) -> None:
    end = BROKEN[name][0 if stream else 1]
    running, provider = before(ground, name, "anthropic")
    said: list[str] = []
    with pytest.raises(anthropic.APIStatusError) as caught:
        said.extend(asked_of_anthropic(anthropic_at(running), stream))
    error = caught.value
    if end.status == 200:
        assert error.type == ANTHROPIC_WORDS[end.told]
        assert "".join(said) == WORDS[0] + WORDS[1]
    else:
        assert isinstance(error, ANTHROPIC_CLASSES[end.status])
        assert error.status_code == end.status
    assert len(provider.exchanges) == 1


STOPS: list[tuple[str, Callable[[], SidegateError]]] = [
    ("cancelled", lambda: Cancelled(Ending.CANCELLED)),
    ("gateway_stopping", GatewayStopping),
]


@pytest.mark.parametrize(("code", "why"), STOPS, ids=[code for code, _ in STOPS])
def test_a_stream_that_is_stopped_raises_in_both_clients(
    ground: Ground,
    openai_at: OpenAIClient,
    anthropic_at: AnthropicClient,
    code: str,
    why: Callable[[], SidegateError],
) -> None:
    running, provider = before(ground, "silent_in_mid_stream", "openai", timeouts={"idle": 60})

    async def stop() -> None:
        (live,) = running.service.live.all()
        live.stop(why())

    words = asked_of_openai(openai_at(running), True)
    assert (next(words), next(words)) == WORDS[:2]
    ground.do(stop())
    with pytest.raises(openai.APIError) as caught:
        next(words)
    assert (type(caught.value), caught.value.code) == (openai.APIError, code)

    words = asked_of_anthropic(anthropic_at(running), True)
    assert (next(words), next(words)) == WORDS[:2]
    ground.do(stop())
    with pytest.raises(anthropic.APIStatusError):
        next(words)
    for exchange in provider.exchanges:
        ground.left(exchange)


def test_a_gateway_that_is_not_there_is_a_connection_error(
    ground: Ground, openai_at: OpenAIClient, anthropic_at: AnthropicClient
) -> None:
    """The one ending in which nobody is left to tell."""
    running, _ = before(ground, "never_answers", "openai")
    ai, claude = openai_at(running), anthropic_at(running)
    ground.do(running.gateway.stop())
    with pytest.raises(openai.APIConnectionError):
        next(asked_of_openai(ai, False))
    with pytest.raises(anthropic.APIConnectionError):
        next(asked_of_anthropic(claude, False))
