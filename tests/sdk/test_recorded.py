"""The vendors' own clients read recorded traffic through the gateway as they read it from the provider itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import anthropic
import openai
import pytest
from anthropic import Anthropic
from openai import OpenAI

from sidegate.testing import Exchange, Running, ScriptedProvider
from tests.relaying import leads_to
from tests.sdk.ground import Ground
from tests.sdk.scripts import play
from tests.wire.recordings import Case, parameters

CHAT = parameters(
    "openai/",
    "azure/",
    "deepseek/",
    "groq/",
    "mistral/",
    "openai-compatible/",
    "openrouter/",
    "xai/",
    only=lambda case: case.dialect == "chat" and case.status == 200,
)
MESSAGES = parameters("anthropic/", only=lambda case: case.dialect == "messages" and case.status == 200)


class Stage:
    """One provider that plays whatever recording is set, behind a gateway for each dialect."""

    def __init__(self, ground: Ground) -> None:
        self.case: Case | None = None
        self.provider: ScriptedProvider = ground.provider(self._play)
        self.openai: Running = ground.gateway(leads_to(self.provider.url + "/v1"))
        self.anthropic: Running = ground.gateway(leads_to(self.provider.url, dialect="anthropic"))

    async def _play(self, exchange: Exchange) -> None:
        assert self.case is not None
        await play(exchange, self.case)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with closing(Ground()) as ground:
        yield Stage(ground)


def heard(ask: Callable[[], Any], stream: bool) -> tuple[list[Any], str]:
    """What a client gives, event for event, and how it ended."""
    events: list[Any] = []
    try:
        given = ask()
        for event in given if stream else [given]:
            events.append(event.to_dict(mode="json", warnings=False))
    except (openai.APIError, anthropic.APIError) as error:
        return events, type(error).__name__
    return events, "ended"


@pytest.mark.parametrize("case", CHAT)
def test_a_recorded_chat_is_read_alike(stage: Stage, case: Case) -> None:
    def ask(url: str) -> Callable[[], Any]:
        more: Any = {"stream": case.stream, **({"stream_options": {"include_usage": True}} if case.stream else {})}
        ai = clients.setdefault(url, OpenAI(base_url=url, api_key="k", max_retries=0))
        return lambda: ai.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], **more)

    clients: dict[str, OpenAI] = {}
    stage.case = case
    straight = heard(ask(stage.provider.url + "/v1"), case.stream)
    through = heard(ask(stage.openai.url + "/v1"), case.stream)
    for ai in clients.values():
        ai.close()
    assert straight[0]
    assert json.dumps(through) == json.dumps(straight)


@pytest.mark.parametrize("case", MESSAGES)
def test_a_recorded_message_is_read_alike(stage: Stage, case: Case) -> None:
    def ask(url: str) -> Callable[[], Any]:
        ai = clients.setdefault(url, Anthropic(base_url=url, api_key="k", max_retries=0))
        asked: Any = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "x"}]}
        return lambda: ai.messages.create(**asked, stream=case.stream)

    clients: dict[str, Anthropic] = {}
    stage.case = case
    straight = heard(ask(stage.provider.url), case.stream)
    through = heard(ask(stage.anthropic.url), case.stream)
    for ai in clients.values():
        ai.close()
    assert straight[0]
    assert json.dumps(through) == json.dumps(straight)
