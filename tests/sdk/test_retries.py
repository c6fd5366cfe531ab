"""How often the vendors' own clients try again, and how long they wait before, by what the gateway says in headers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from sidegate.testing import Exchange, Running
from tests.relaying import answers
from tests.sdk.ground import Ground
from tests.upstream.site import replies

QUOTA = b'{"error": {"message": "No quota.", "type": "insufficient_quota", "code": "insufficient_quota"}}'

Ask = Callable[[], Any]


def limit(period: str) -> dict[str, Any]:
    return {"use": "rate_limit", "settings": {"limits": [{"name": "n", "requests": 1, "period": period}]}}


def budget() -> dict[str, Any]:
    budgets = [{"name": "b", "amount_usd": "0.000001", "period": "month"}]
    prices = {"real": {"input": 1, "output": 1}}
    return {"use": "cost", "settings": {"budgets": budgets, "prices": prices}}


class Client:
    """A client with two tries of its own, that notes how long it would wait and does not."""

    def __init__(self, vendor: str, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waits: list[float] = []
        made: Any
        if vendor == "openai":
            made = openai.OpenAI(base_url=f"{running.url}/v1", api_key="k", max_retries=2)
            self._ask: Ask = lambda: made.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hi"}]
            )
            self._stream: Ask = lambda: made.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hi"}], stream=True
            )
        else:
            made = anthropic.Anthropic(base_url=running.url, api_key="k", max_retries=2)
            asked = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
            self._ask = lambda: made.messages.create(**asked)
            self._stream = lambda: made.messages.create(**asked, stream=True)
        calculated = made._calculate_retry_timeout

        def noted(*arguments: Any, **named: Any) -> float:
            self.waits.append(calculated(*arguments, **named))
            return 0

        monkeypatch.setattr(made, "_calculate_retry_timeout", noted)
        self._made = made

    def ask(self, stream: bool) -> Any:
        return self._stream() if stream else self._ask()

    def fails(self, stream: bool) -> Any:
        """The error it raises."""
        with self._made, pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as caught:
            self.ask(stream)
        return caught.value


vendors = pytest.mark.parametrize("vendor", ["openai", "anthropic"])
both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])


@vendors
@both
@pytest.mark.parametrize(
    ("script", "tries", "waits", "name"),
    [
        # Longer than the gateway waits: the client is told, and waits itself.
        (replies(429, Retry_After="30"), 3, [30.0, 30.0], "RateLimitError"),
        (replies(429, retry_after_ms="20500"), 3, [20.5, 20.5], "RateLimitError"),
        # The gateway has tried twice: nobody tries again.
        (replies(500), 2, [], "InternalServerError"),
        (replies(503, retry_after_ms="1"), 2, [], None),
        # Nothing that time mends.
        (replies(429, QUOTA), 1, [], "RateLimitError"),
        (replies(401), 1, [], "InternalServerError"),
        (replies(400), 1, [], "BadRequestError"),
        # A provider that says so itself.
        (replies(500, x_should_retry="false"), 1, [], "InternalServerError"),
        (replies(429, Retry_After="30", x_should_retry="false"), 1, [], "RateLimitError"),
        # Later than anybody sleeps.
        (replies(429, Retry_After="7200"), 1, [], "RateLimitError"),
    ],
    ids=["429-30s", "429-ms", "500", "503", "quota", "401", "400", "500-said", "429-said", "429-2h"],
)
def test_tries_are_not_multiplied(
    ground: Ground,
    monkeypatch: pytest.MonkeyPatch,
    vendor: str,
    stream: bool,
    script: Any,
    tries: int,
    waits: list[float],
    name: str | None,
) -> None:
    running, provider = ground.before(script)
    client = Client(vendor, running, monkeypatch)
    error = client.fails(stream)
    assert (len(provider.exchanges), client.waits) == (tries, waits)
    assert name in (None, type(error).__name__)
    assert error.request_id if vendor == "openai" else error.body["request_id"] == error.response.headers["request-id"]


@vendors
def test_a_limit_of_the_gateways_own_is_waited_for(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    running, provider = ground.before(answers, plugins=(limit("minute"),))
    client = Client(vendor, running, monkeypatch)
    client.ask(False)
    client.fails(False)
    assert len(client.waits) == 2
    assert all(50 < wait <= 61 for wait in client.waits)
    assert len(provider.exchanges) == 1


@vendors
@pytest.mark.parametrize("plugin", [limit("day"), budget()], ids=["a-day", "a-month"])
def test_what_is_not_there_again_soon_is_not_tried_again(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, vendor: str, plugin: dict[str, Any]
) -> None:
    running, _ = ground.before(answers, plugins=(plugin,))
    client = Client(vendor, running, monkeypatch)
    if plugin["use"] == "rate_limit":
        client.ask(False)
    assert client.fails(False).status_code == 429
    assert client.waits == []


def test_googles_client_is_told_when_by_the_body(ground: Ground) -> None:
    async def limited(exchange: Exchange) -> None:
        await replies(429, Retry_After="30")(exchange)

    running, provider = ground.before(limited)
    with genai.Client(api_key="k", http_options=types.HttpOptions(base_url=running.url)) as client:
        with pytest.raises(errors.ClientError) as caught:
            client.models.generate_content(model="m", contents="hi")
    delays = [each.get("retryDelay") for each in caught.value.details["error"]["details"]]
    assert (caught.value.code, delays, len(provider.exchanges)) == (429, [None, "30s"], 1)
