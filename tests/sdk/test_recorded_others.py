"""Recorded refusals, counts and embeddings, read by the vendors' own clients: straight, and through the gateway."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from sidegate.testing import Exchange, ScriptedProvider
from tests.relaying import leads_to
from tests.sdk.ground import Ground
from tests.wire.recordings import Case, parameters

SPEAKS = {"chat": "openai", "responses": "openai_responses", "messages": "anthropic", "gemini": "gemini"}
"""What the recordings call a dialect, and the config."""
VERSIONS = {"openai": "/v1", "openai_responses": "/v1", "anthropic": "", "gemini": ""}
HIDDEN = {401: 502, 403: 502, 500: 502, 529: 503}
"""Statuses that are not the client's: a key that is the gateway's, and failures in the gateway's words."""
RAISED = openai.APIStatusError, anthropic.APIStatusError, errors.APIError

Ask = Callable[[Any], Any]


class Stage:
    """One provider that plays whatever recording is set, behind a gateway for each dialect, and clients of both."""

    def __init__(self, ground: Ground, stack: ExitStack) -> None:
        self.case: Case | None = None
        self.provider: ScriptedProvider = ground.provider(self._play)
        self._stack = stack
        self._clients: dict[tuple[str, str], Any] = {}
        self._gateways = {dialect: ground.gateway(self._before(dialect)) for dialect in VERSIONS}

    def readings(self, case: Case, dialect: str, ask: Ask) -> tuple[Any, Any]:
        """What a client of this dialect is told straight and through the gateway, or what it raises."""
        self.case = case
        straight, through = self.provider.url, self._gateways[dialect].url
        return _told(ask, self._client(dialect, straight)), _told(ask, self._client(dialect, through))

    def _before(self, dialect: str) -> dict[str, Any]:
        config: dict[str, Any] = leads_to(self.provider.url + VERSIONS[dialect], dialect=dialect)
        config["providers"]["p0"]["retry"] = {"attempts": 1}
        return config

    async def _play(self, exchange: Exchange) -> None:
        assert self.case is not None
        await exchange.reply(self.case.body, self.case.status)

    def _client(self, dialect: str, url: str) -> Any:
        key = dialect.removesuffix("_responses"), url
        if key not in self._clients:
            self._clients[key] = self._stack.enter_context(_made(*key))
        return self._clients[key]


def _made(vendor: str, url: str) -> Any:
    if vendor == "openai":
        return openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)
    if vendor == "anthropic":
        return anthropic.Anthropic(base_url=url, api_key="k", max_retries=0)
    return genai.Client(api_key="k", http_options=types.HttpOptions(base_url=url))


def _told(ask: Ask, client: Any) -> Any:
    try:
        return ask(client)
    except RAISED as error:
        return error


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with closing(Ground()) as ground, ExitStack() as stack:
        yield Stage(ground, stack)


ASKS: dict[str, Ask] = {
    "chat": lambda ai: ai.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}]),
    "responses": lambda ai: ai.responses.create(model="m", input="x"),
    "messages": lambda ai: ai.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]),
    "gemini": lambda ai: ai.models.generate_content(model="m", contents="x"),
}


def status(error: Any) -> int:
    return int(error.code if isinstance(error, errors.APIError) else error.status_code)


@pytest.mark.parametrize("case", parameters("", only=lambda case: case.dialect in SPEAKS and case.status != 200))
def test_a_recorded_refusal_has_its_class(stage: Stage, case: Case) -> None:
    straight, through = stage.readings(case, SPEAKS[case.dialect], ASKS[case.dialect])
    assert status(straight) == case.status
    assert status(through) == HIDDEN.get(case.status, case.status)
    if case.status not in HIDDEN:
        assert type(through) is type(straight)


@pytest.mark.parametrize("case", parameters("anthropic/count", "gemini/count"))
def test_a_recorded_count_is_read_alike(stage: Stage, case: Case) -> None:
    def count(ai: Any) -> Any:
        if case.provider == "anthropic":
            return ai.messages.count_tokens(model="m", messages=[{"role": "user", "content": "x"}]).to_dict()
        return ai.models.count_tokens(model="m", contents="x").model_dump(exclude={"sdk_http_response"})

    straight, through = stage.readings(case, case.provider, count)
    assert straight
    assert through == straight


@pytest.mark.parametrize("case", parameters("openai/embed", "gemini/embed", only=lambda case: case.status == 200))
def test_recorded_vectors_are_read_alike(stage: Stage, case: Case) -> None:
    def vectors(ai: Any) -> list[list[float]]:
        if case.provider == "openai":
            return [_rounded(each.embedding) for each in ai.embeddings.create(model="m", input=["x"]).data]
        return [_rounded(each.values) for each in ai.models.embed_content(model="m", contents=["x"]).embeddings]

    straight, through = stage.readings(case, case.provider, vectors)
    assert straight[0]
    assert through == straight


def _rounded(vector: list[float]) -> list[float]:
    """As 32 bits hold it: what is asked for in base64 comes so."""
    return list(struct.unpack(f"<{len(vector)}f", struct.pack(f"<{len(vector)}f", *vector)))
