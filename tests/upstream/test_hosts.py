"""What goes out to a host: where, under which key, with which fields. Data of its preset, seen on the wire."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from sidegate.testing import Exchange, gateway, scripted
from tests.relaying import answers, chat, messages
from tests.upstream.site import both

PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
EMBEDDED = b'{"object":"list","model":"real-1","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"usage":'
EMBEDDED += b'{"prompt_tokens":3,"total_tokens":3}}'
RESPONDED = b'{"id":"r1","object":"response","created_at":1,"model":"real-1","status":"completed","output":[{"type":'
RESPONDED += (
    b'"message","id":"m1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Hi",'
)
RESPONDED += b'"annotations":[]}]}],"usage":{"input_tokens":3,"output_tokens":1,"total_tokens":4}}'


async def serves(exchange: Exchange) -> None:
    """Whatever a host may be asked."""
    path = exchange.path.partition("?")[0]
    if path.endswith("/embeddings"):
        await exchange.reply(EMBEDDED)
    elif path.endswith("/responses"):
        await exchange.reply(RESPONDED)
    else:
        await answers(exchange)


async def sent(
    http: aiohttp.ClientSession,
    path: str,
    body: dict[str, Any],
    status: int = 200,
    model: str = "real",
    **provider: Any,
) -> Exchange | None:
    """What reached the host, if anything, of a client's request."""
    async with scripted(serves) as host:
        config = {
            "providers": {"p": {"base_url": host.url, "api_key": "k-one", **provider}},
            "models": {"m": {"provider": "p", "model": model}},
            "pipelines": {"main": {}},
        }
        async with gateway(config) as running, http.post(running.url + path, json=body) as reply:
            assert reply.status == status, await reply.text()
            await reply.read()
    return host.exchanges[0] if host.exchanges else None


async def reached(
    http: aiohttp.ClientSession, path: str, body: dict[str, Any], status: int = 200, **provider: Any
) -> Exchange:
    found = await sent(http, path, body, status, **provider)
    assert found is not None
    return found


# --- Azure ------------------------------------------------------------------------------------------------------------

EMBED = {"model": "m", "input": "x"}


@both
@pytest.mark.parametrize("client", ["chat", "messages"])
async def test_azures_classic_paths_name_the_deployment_and_the_version(
    http: aiohttp.ClientSession, client: str, stream: bool
) -> None:
    asked = chat(stream) if client == "chat" else messages(stream)
    exchange = await reached(http, PATHS[client], asked, preset="azure_deployments")
    assert exchange.path == "/deployments/real/chat/completions?api-version=2024-10-21"
    assert exchange.headers["api-key"] == "k-one"
    assert "authorization" not in exchange.headers
    assert exchange.json["stream"] is stream if client == "chat" else exchange.json.get("stream", False) is stream


async def test_azures_embeddings_and_completions_are_of_a_deployment_too(http: aiohttp.ClientSession) -> None:
    embedded = await reached(
        http, "/v1/embeddings", EMBED, preset="azure_deployments", api_version="2025-01-01-preview"
    )
    assert embedded.path == "/deployments/real/embeddings?api-version=2025-01-01-preview"


async def test_azures_responses_have_no_deployment_in_their_path(http: aiohttp.ClientSession) -> None:
    asked = {"model": "m", "input": "hi"}
    exchange = await reached(http, PATHS["responses"], asked, preset="azure_deployments", responses=True)
    assert exchange.path == "/responses?api-version=2024-10-21"
    assert exchange.json["model"] == "real"


async def test_a_deployment_is_one_part_of_the_path_whatever_its_name(http: aiohttp.ClientSession) -> None:
    exchange = await reached(http, PATHS["chat"], chat(), preset="azure_deployments", model="a/../b?c#d")
    assert exchange.path == "/deployments/a%2F..%2Fb%3Fc%23d/chat/completions?api-version=2024-10-21"


@pytest.mark.parametrize("model", [".", ".."])
async def test_a_name_that_leads_elsewhere_is_no_deployment(http: aiohttp.ClientSession, model: str) -> None:
    assert await sent(http, PATHS["chat"], chat(), 400, preset="azure_deployments", model=model) is None


async def test_azures_newer_paths_are_those_of_openai(http: aiohttp.ClientSession) -> None:
    exchange = await reached(http, PATHS["chat"], chat(), preset="azure")
    assert (exchange.path, exchange.headers["api-key"]) == ("/chat/completions", "k-one")
    assert exchange.json["model"] == "real"


async def test_a_token_of_entra_goes_where_tokens_go(http: aiohttp.ClientSession) -> None:
    exchange = await reached(http, PATHS["chat"], chat(), preset="azure", key_header="Authorization")
    assert exchange.headers["authorization"] == "Bearer k-one"
    assert "api-key" not in exchange.headers


async def test_a_scheme_of_ones_own_stands_before_the_key(http: aiohttp.ClientSession) -> None:
    exchange = await reached(http, PATHS["chat"], chat(), dialect="openai", key_header="X-Auth", key_scheme="Token")
    assert exchange.headers["x-auth"] == "Token k-one"


async def test_anthropics_key_may_go_as_a_token(http: aiohttp.ClientSession) -> None:
    exchange = await reached(http, PATHS["chat"], chat(), 502, dialect="anthropic", key_header="Authorization")
    assert exchange.headers["authorization"] == "Bearer k-one"
    assert exchange.headers["anthropic-version"] == "2023-06-01"


# --- fields -----------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("client", ["chat", "messages"])
async def test_mistral_is_not_asked_for_usage_and_tells_it(
    http: aiohttp.ClientSession, client: str, stream: bool
) -> None:
    asked = chat(stream, stream_options={"include_usage": True}) if client == "chat" else messages(stream)
    exchange = await reached(http, PATHS[client], asked, preset="mistral")
    assert "stream_options" not in exchange.json


async def test_a_field_goes_by_the_hosts_name(http: aiohttp.ClientSession) -> None:
    asked = chat(seed=7, max_completion_tokens=50)
    told = (await reached(http, PATHS["chat"], asked, preset="mistral")).json
    assert {key: told[key] for key in ("random_seed", "max_tokens")} == {"random_seed": 7, "max_tokens": 50}
    assert not {"seed", "max_completion_tokens"} & told.keys()


async def test_a_field_that_has_the_hosts_name_stays(http: aiohttp.ClientSession) -> None:
    told = (await reached(http, PATHS["chat"], chat(seed=7, random_seed=8), preset="mistral")).json
    assert (told["seed"], told["random_seed"]) == (7, 8)


async def test_a_developer_is_the_system_where_the_host_knows_none(http: aiohttp.ClientSession) -> None:
    turns: list[Any] = [{"role": "developer", "content": 'Be "developer".'}, {"role": "user", "content": "hi"}]
    told = (await reached(http, PATHS["chat"], chat() | {"messages": turns}, preset="deepseek")).json["messages"]
    assert told == [{**turns[0], "role": "system"}, turns[1]]
    told = (await reached(http, PATHS["chat"], chat() | {"messages": turns}, preset="groq")).json["messages"]
    assert told == turns


async def test_messages_that_say_developer_and_are_of_none_stay(http: aiohttp.ClientSession) -> None:
    turns = [{"role": "user", "name": "developer", "content": [{"type": "text", "text": "developer"}]}]
    told = (await reached(http, PATHS["chat"], chat() | {"messages": turns}, preset="mistral")).json["messages"]
    assert told == turns


async def test_a_translated_limit_goes_by_the_hosts_word(http: aiohttp.ClientSession) -> None:
    asked = messages(False) | {"max_tokens": 70}
    groq = (await reached(http, PATHS["messages"], asked, preset="groq")).json
    assert (groq["max_completion_tokens"], "max_tokens" in groq) == (70, False)
    mistral = (await reached(http, PATHS["messages"], asked, preset="mistral")).json
    assert (mistral["max_tokens"], "max_completion_tokens" in mistral) == (70, False)


# --- what a host serves -----------------------------------------------------------------------------------------------


async def test_a_legacy_completion_is_a_chat_where_the_host_has_none(http: aiohttp.ClientSession) -> None:
    asked = {"model": "m", "prompt": "Once"}
    assert (await reached(http, "/v1/completions", asked, preset="groq")).path == "/chat/completions"
    assert (await reached(http, "/v1/completions", asked, dialect="openai")).path == "/completions"


async def test_embeddings_of_a_host_without_them_are_refused_before_it_is_asked(http: aiohttp.ClientSession) -> None:
    assert await sent(http, "/v1/embeddings", EMBED, 400, preset="groq") is None


async def test_responses_go_to_hosts_that_serve_them_and_are_translated_for_others(
    http: aiohttp.ClientSession,
) -> None:
    asked = {"model": "m", "input": "hi"}
    assert (await reached(http, PATHS["responses"], asked, preset="groq")).path == "/responses"
    assert (await reached(http, PATHS["responses"], asked, preset="together")).path == "/chat/completions"


async def test_chats_are_translated_for_a_host_of_responses(http: aiohttp.ClientSession) -> None:
    assert (await reached(http, PATHS["chat"], chat(), preset="perplexity")).path == "/responses"
