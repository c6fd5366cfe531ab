"""By which word a provider is told the longest reply: newer models of OpenAI refuse the older one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidegate.config import read_mapping
from sidegate.testing import gateway, scripted
from tests.relaying import answers, chat, messages
from tests.upstream.site import both

BUDGET = {
    "use": "cost",
    "settings": {"prices": {"*": {"input": 1, "output": 1}}, "budgets": [{"name": "b", "amount_usd": 9}]},
}
OLDER, NEWER = "max_tokens", "max_completion_tokens"


async def told(http: aiohttp.ClientSession, path: str, body: dict[str, Any], *plugins: Any, **settings: Any) -> Any:
    """What the provider is told, by each of the two words."""
    async with scripted(answers) as provider:
        config = {
            "providers": {"p": {"dialect": "openai", "base_url": provider.url, "api_key": "sk-one", **settings}},
            "models": {"m": {"provider": "p", "model": "real"}},
            "pipelines": {"main": {"plugins": list(plugins)}},
        }
        async with gateway(config) as running, http.post(running.url + path, json=body) as reply:
            assert reply.status == 200, await reply.text()
            await reply.read()
    sent = provider.exchanges[0].json
    return {word: sent[word] for word in (OLDER, NEWER) if word in sent}


@both
@pytest.mark.parametrize("word", [OLDER, NEWER])
async def test_a_budget_says_it_as_the_provider_does(http: aiohttp.ClientSession, stream: bool, word: str) -> None:
    asked = chat(stream)
    asked.pop(OLDER, None)
    path = "/v1/chat/completions"
    assert await told(http, path, asked, BUDGET, max_tokens_field=word) == {word: 4096}


@both
@pytest.mark.parametrize("word", [OLDER, NEWER])
async def test_a_translated_request_says_it_as_the_provider_does(
    http: aiohttp.ClientSession, stream: bool, word: str
) -> None:
    asked = messages(stream) | {"max_tokens": 77}
    assert await told(http, "/v1/messages", asked, max_tokens_field=word) == {word: 77}


@both
@pytest.mark.parametrize("said", [OLDER, NEWER])
@pytest.mark.parametrize("word", [OLDER, NEWER])
async def test_what_the_client_says_stays_as_it_is(
    http: aiohttp.ClientSession, stream: bool, said: str, word: str
) -> None:
    asked = {key: value for key, value in chat(stream).items() if key != OLDER} | {said: 33}
    assert await told(http, "/v1/chat/completions", asked, BUDGET, max_tokens_field=word) == {said: 33}


@pytest.mark.parametrize(
    ("url", "word"),
    [("", NEWER), ("https://api.openai.com/v1/", NEWER), ("http://127.0.0.1:11434/v1", OLDER)],
    ids=["left out", "OpenAI", "another"],
)
def test_only_openai_itself_is_told_by_the_newer_word(url: str, word: str) -> None:
    config = {
        "providers": {"p": {"dialect": "openai", "base_url": url, "api_key": "sk-one"}},
        "models": {"m": {"provider": "p"}},
        "pipelines": {"main": {}},
    }
    assert read_mapping(config, {}, Path()).settings.providers["p"].max_tokens_field == word
