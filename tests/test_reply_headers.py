"""Headers that SDKs act on, through a gateway: of the provider, of the gateway itself, and of neither."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from sidegate.testing import Exchange, gateway, scripted
from tests.relaying import answers, chat, leads_to, messages
from tests.sdk.scripts import anthropic_says
from tests.upstream.site import post, replies

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])

LIMITS = {"X_Ratelimit_Limit_Requests": "500", "X_Ratelimit_Remaining_Requests": "499"}
OWN = {"use": "rate_limit", "settings": {"limits": [{"name": "n", "requests": 9, "period": "hour"}]}}
OPENAI, ANTHROPIC = "/v1/chat/completions", "/v1/messages"


def with_headers(script: Any, **more: str) -> Any:
    """The same provider with further headers in its head."""

    async def answer(exchange: Exchange) -> None:
        head = exchange.head

        async def fuller(*arguments: Any, **named: Any) -> None:
            await head(*arguments, **{**named, **more})

        exchange.head = fuller  # type: ignore[method-assign]  # a head with more in it
        await script(exchange)

    return answer


@both
async def test_a_client_of_the_same_dialect_is_told_what_is_left_at_the_provider(
    http: aiohttp.ClientSession, stream: bool
) -> None:
    script = with_headers(answers, **LIMITS, OpenAI_Organization="5ecret", Set_Cookie="5ecret")
    async with scripted(script) as provider, gateway(leads_to(provider.url)) as running:
        _, _, headers = await post(http, running, OPENAI, stream)
        _, _, other = await post(http, running, ANTHROPIC, stream)
    assert headers["x-ratelimit-remaining-requests"] == "499"
    assert {name.lower() for name in headers} <= {
        *("server", "x-request-id", "content-type", "content-length", "date", "transfer-encoding", "cache-control"),
        *("connection", "x-accel-buffering", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"),
    }
    assert other["anthropic-ratelimit-requests-remaining"] == "499"
    assert other["request-id"] == other["x-request-id"]
    assert not [name for name in other if name.lower().startswith("x-ratelimit")]


@both
async def test_anthropics_own_limits_pass_to_its_clients_and_are_translated_for_others(
    http: aiohttp.ClientSession, stream: bool
) -> None:
    said = {
        "Anthropic_Ratelimit_Tokens_Limit": "1000",
        "Anthropic_Ratelimit_Tokens_Remaining": "900",
        "Anthropic_Ratelimit_Tokens_Reset": "2020-01-01T00:00:00Z",
        "Anthropic_Ratelimit_Input_Tokens_Remaining": "5",
        "Anthropic_Organization_Id": "5ecret",
    }
    script = with_headers(anthropic_says, **said)
    async with scripted(script) as provider, gateway(leads_to(provider.url, dialect="anthropic")) as running:
        _, _, headers = await post(http, running, ANTHROPIC, stream)
        _, _, other = await post(http, running, OPENAI, stream)
    assert headers["anthropic-ratelimit-tokens-reset"] == "2020-01-01T00:00:00Z"
    assert headers["anthropic-ratelimit-input-tokens-remaining"] == "5"
    limits = {name.lower(): value for name, value in other.items() if "ratelimit" in name.lower()}
    assert limits == {
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "900",
        "x-ratelimit-reset-tokens": "0ms",
    }
    assert "5ecret" not in f"{headers}{other}"


@both
async def test_a_gateway_with_limits_of_its_own_tells_those(http: aiohttp.ClientSession, stream: bool) -> None:
    script = with_headers(answers, **LIMITS)
    async with scripted(script) as provider, gateway(leads_to(provider.url, plugins=(OWN,))) as running:
        _, _, headers = await post(http, running, OPENAI, stream)
        _, _, other = await post(http, running, ANTHROPIC, stream)
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("9", "8")
    assert (other["anthropic-ratelimit-requests-limit"], other["anthropic-ratelimit-requests-remaining"]) == ("9", "7")
    assert other["anthropic-ratelimit-requests-reset"].endswith("Z")


@both
async def test_the_limits_of_a_failed_attempt_are_not_those_of_the_answer(
    http: aiohttp.ClientSession, stream: bool
) -> None:
    limited = replies(429, X_Ratelimit_Limit_Requests="1", Retry_After="99", x_should_retry="false")
    async with scripted(limited) as first, scripted(answers) as second:
        async with gateway(leads_to(first.url, second.url)) as running:
            status, _, headers = await post(http, running, OPENAI, stream)
    assert status == 200
    assert not {"x-ratelimit-limit-requests", "x-should-retry", "retry-after"} & {name.lower() for name in headers}


@both
async def test_a_refusal_says_exactly_when_and_what_is_left(http: aiohttp.ClientSession, stream: bool) -> None:
    named: Any = {**LIMITS, "retry_after_ms": "30500", "CF_Ray": "5ecret"}
    script = replies(429, **named)
    async with scripted(script) as provider, gateway(leads_to(provider.url, plugins=(OWN,))) as running:
        status, _, headers = await post(http, running, OPENAI, stream)
    assert (status, headers["Retry-After"], headers["retry-after-ms"]) == (429, "31", "30500")
    assert headers["x-ratelimit-remaining-requests"] == "499", "the limit that has refused is the provider's"
    assert "x-should-retry" not in headers
    assert "5ecret" not in str(headers)


@both
@pytest.mark.parametrize(("word", "tries"), [("false", 1), ("FALSE", 1), ("true", 2), ("maybe", 2)])
async def test_a_providers_word_on_another_try_is_heard(
    http: aiohttp.ClientSession, word: str, tries: int, stream: bool
) -> None:
    async with scripted(replies(500, x_should_retry=word)) as provider, gateway(leads_to(provider.url)) as running:
        status, _, headers = await post(http, running, OPENAI, stream)
    # After its own retries the gateway says no, whatever the provider says.
    assert (status, headers["x-should-retry"], len(provider.exchanges)) == (502, "false", tries)


async def test_a_provider_that_wants_no_other_try_is_passed_over_for_the_next(http: aiohttp.ClientSession) -> None:
    async with scripted(replies(500, x_should_retry="false")) as first, scripted(answers) as second:
        async with gateway(leads_to(first.url, second.url)) as running:
            status, _, _ = await post(http, running, OPENAI, False)
    assert (status, len(first.exchanges), len(second.exchanges)) == (200, 1, 1)


async def test_a_wait_that_no_sdk_should_sleep_through_is_the_callers(http: aiohttp.ClientSession) -> None:
    own = {"use": "rate_limit", "settings": {"limits": [{"name": "n", "requests": 1, "period": "day"}]}}
    async with scripted(answers) as provider, gateway(leads_to(provider.url, plugins=(own,))) as running:
        assert (await post(http, running, ANTHROPIC, False))[0] == 200
        status, _, headers = await post(http, running, ANTHROPIC, False)
    assert (status, headers["x-should-retry"]) == (429, "false")
    assert int(headers["Retry-After"]) > 80_000
    assert abs(int(headers["retry-after-ms"]) / 1000 - int(headers["Retry-After"])) <= 1


async def test_geminis_clients_are_told_in_the_body(http: aiohttp.ClientSession) -> None:
    body = {"contents": [{"parts": [{"text": "hi"}]}]}
    async with scripted(replies(429, retry_after_ms="40000")) as provider, gateway(leads_to(provider.url)) as running:
        url = f"{running.url}/v1beta/models/m:generateContent"
        async with http.post(url, json=body) as reply:
            said = await reply.json()
    delays = [each["retryDelay"] for each in said["error"]["details"] if "retryDelay" in each]
    assert (reply.status, delays, reply.headers["Retry-After"]) == (429, ["40s"], "40")


async def test_what_gemini_says_in_the_body_becomes_headers(http: aiohttp.ClientSession) -> None:
    said = (
        b'{"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED", "details": ['
        b'{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "48.5s"}]}}'
    )
    async with scripted(replies(429, said)) as provider:
        async with gateway(leads_to(provider.url, dialect="gemini")) as running:
            status, _, headers = await post(http, running, OPENAI, True)
    assert (status, headers["Retry-After"], headers["retry-after-ms"]) == (429, "49", "48500")


# --- what goes to the provider ----------------------------------------------------------------------------------------

SENT = {
    "OpenAI-Beta": "responses=v1",
    "Anthropic-Beta": "a-1,b-2",
    "Anthropic-Version": "2026-10-21",
    "OpenAI-Organization": "org-client",
    "OpenAI-Project": "proj-client",
    "X-Stainless-Lang": "python",
    "X-Stainless-Retry-Count": "1",
    "X-Stainless-Read-Timeout": "600",
    "X-Goog-Api-Client": "google-genai-sdk/3",
    "Idempotency-Key": "k",
    "Cookie": "c",
}


@pytest.mark.parametrize(
    ("dialect", "path", "wanted"),
    [
        ("openai", OPENAI, {"openai-beta": "responses=v1"}),
        ("anthropic", ANTHROPIC, {"anthropic-version": "2026-10-21", "anthropic-beta": "a-1,b-2"}),
        ("openai", ANTHROPIC, {}),
        ("anthropic", OPENAI, {"anthropic-version": "2023-06-01"}),
    ],
)
async def test_only_the_versions_of_a_dialect_that_both_speak_go_on(
    http: aiohttp.ClientSession, dialect: str, path: str, wanted: dict[str, str]
) -> None:
    script = anthropic_says if dialect == "anthropic" else answers
    body = messages() if path == ANTHROPIC else chat()
    async with scripted(script) as provider, gateway(leads_to(provider.url, dialect=dialect)) as running:
        async with http.post(running.url + path, json=body, headers=SENT) as reply:
            assert reply.status == 200
    (exchange,) = provider.exchanges
    own = {"host", "content-type", "accept", "accept-encoding", "user-agent", "content-length"}
    key = {"x-api-key"} if dialect == "anthropic" else {"authorization"}
    assert {name: value for name, value in exchange.headers.items() if name not in own | key} == wanted


@both
async def test_the_providers_own_id_of_a_request_is_in_the_log_alone(http: aiohttp.ClientSession, stream: bool) -> None:
    log = {"use": "log", "settings": {}}
    failing = replies(500, request_id="r" * 1000)
    script = with_headers(answers, X_Request_Id="req_theirs")
    async with scripted(failing) as first, scripted(script) as second:
        async with gateway(leads_to(first.url, second.url, plugins=(log,))) as running:
            _, _, headers = await post(http, running, OPENAI, stream)
            (line,) = running.log.events("call")
    assert [attempt["request_id"] for attempt in line["attempts"]] == ["r" * 128, "r" * 128, "req_theirs"]
    assert headers["x-request-id"] == line["call"]


async def test_betas_of_the_config_and_of_the_client_go_on_together(http: aiohttp.ClientSession) -> None:
    async with scripted(anthropic_says) as provider:
        config = leads_to(provider.url, dialect="anthropic")
        config["providers"]["p0"]["headers"] = {
            "Anthropic-Beta": "own-1",
            "Anthropic-Version": "2023-01-01",
            "x-a": "1",
        }
        async with gateway(config) as running:
            headers = {"anthropic-beta": "a-1", "anthropic-version": "2023-06-01"}
            async with http.post(running.url + ANTHROPIC, json=messages(), headers=headers) as reply:
                assert reply.status == 200
    sent = provider.exchanges[0].headers
    assert (sent["anthropic-beta"], sent["anthropic-version"], sent["x-a"]) == ("own-1, a-1", "2023-06-01", "1")


async def test_what_one_call_asks_for_is_in_no_other(http: aiohttp.ClientSession) -> None:
    """Heads are made once for a URL and key, and each call's own length is in it."""
    async with scripted(answers) as provider:
        config = leads_to(provider.url)
        del config["providers"]["p0"]["api_key"]
        config["providers"]["p0"]["api_keys"] = ["sk-1", "sk-2"]
        async with gateway(config) as running:
            for betas, text in (("", "a"), ("b", "aa"), ("", "aaa"), ("", "aaaa"), ("", "aaaaa")):
                body = chat() | {"messages": [{"role": "user", "content": text}]}
                headers = {"openai-beta": betas} if betas else {}
                async with http.post(running.url + OPENAI, json=body, headers=headers) as reply:
                    assert reply.status == 200
    sent = [exchange.headers for exchange in provider.exchanges]
    assert [each.get("openai-beta") for each in sent] == [None, "b", None, None, None]
    assert [each["authorization"][-4:] for each in sent] == ["sk-1", "sk-2", "sk-1", "sk-2", "sk-1"]
    lengths = [int(each["content-length"]) for each in sent]
    assert lengths == [lengths[0] + more for more in range(5)]
    assert lengths == [len(exchange.body) for exchange in provider.exchanges]


async def test_a_version_named_in_several_lines_goes_on_whole(http: aiohttp.ClientSession) -> None:
    async with scripted(anthropic_says) as provider, gateway(leads_to(provider.url, dialect="anthropic")) as running:
        headers = [("anthropic-beta", "a-1"), ("anthropic-beta", "b-2")]
        async with http.post(running.url + ANTHROPIC, json=messages(), headers=headers) as reply:
            assert reply.status == 200
    assert provider.exchanges[0].headers["anthropic-beta"] == "a-1, b-2"


# --- how long a client waits ------------------------------------------------------------------------------------------


async def silent(exchange: Exchange) -> None:
    await exchange.closed.wait()


async def test_the_time_that_googles_client_names_is_the_calls(http: aiohttp.ClientSession) -> None:
    body = {"contents": [{"parts": [{"text": "hi"}]}]}
    async with scripted(silent) as provider, gateway(leads_to(provider.url)) as running:
        url = f"{running.url}/v1/models/m:generateContent"
        async with http.post(url, json=body, headers={"x-server-timeout": "0.2"}) as reply:
            said = await reply.json()
    assert (reply.status, said["error"]["status"]) == (504, "DEADLINE_EXCEEDED")
    assert (said["error"]["details"][0]["reason"], reply.headers["x-should-retry"]) == ("TOTAL_TIMEOUT", "false")


@pytest.mark.parametrize("wrong", ["", "0", "-1", "nan", "1e9", "soon", "999999"])
async def test_a_time_that_is_none_is_not_heeded(http: aiohttp.ClientSession, wrong: str) -> None:
    body = {"contents": [{"parts": [{"text": "hi"}]}]}
    async with scripted(answers) as provider, gateway(leads_to(provider.url)) as running:
        url = f"{running.url}/v1/models/m:generateContent"
        async with http.post(url, json=body, headers={"x-server-timeout": wrong}) as reply:
            assert reply.status == 200


async def test_how_long_other_sdks_would_wait_is_no_wish(http: aiohttp.ClientSession) -> None:
    waits = {"x-stainless-read-timeout": "0.001", "x-stainless-timeout": "0.001", "x-stainless-retry-count": "2"}
    log = {"use": "log", "settings": {}}
    async with scripted(answers) as provider, gateway(leads_to(provider.url, plugins=(log,))) as running:
        async with http.post(running.url + OPENAI, json=chat(), headers=waits) as reply:
            assert reply.status == 200
        (line,) = running.log.events("call")
    assert line["client_retries"] == 2


@both
async def test_a_client_is_told_where_the_time_went_only_where_the_config_says_so(
    http: aiohttp.ClientSession, stream: bool
) -> None:
    async with scripted(answers) as provider:
        async with gateway(leads_to(provider.url)) as running:
            _, _, headers = await post(http, running, OPENAI, stream)
            assert "server-timing" not in headers
        async with gateway(leads_to(provider.url) | {"server": {"server_timing": True}}) as running:
            _, _, headers = await post(http, running, OPENAI, stream)
            async with http.post(running.url + OPENAI, json={"model": "nobody-has-it", "messages": []}) as reply:
                refused = reply.headers
    spent = {name: float(value) for name, _, value in (one.partition(";dur=") for one in _listed(headers))}
    assert spent["provider"] > 0
    assert spent["gateway"] >= 0
    assert "provider;dur=0.000" in _listed(refused)


def _listed(headers: Any) -> list[str]:
    return str(headers["server-timing"]).split(", ")
