"""OpenAI's own client reads recorded Responses through the gateway as it reads them from the provider itself, and other
clients read of them what was said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import openai
import pytest
from anthropic import Anthropic
from openai import OpenAI

from sidegate.testing import Exchange, Running, ScriptedProvider
from tests.relaying import leads_to
from tests.sdk.ground import Ground
from tests.sdk.scripts import play
from tests.sdk.test_recorded import heard
from tests.wire.recordings import Case, parameters
from tests.wire.responses_reading import measured, responses
from tests.wire.saying import Said, flat, said

PROVIDERS = [f"{name}/responses-" for name in ("openai", "azure", "deepseek", "xai", "openrouter", "openresponses")]
FAILED = parameters(*PROVIDERS, only=lambda case: case.status == 200 and not case.good)
GOOD = parameters(*PROVIDERS, only=lambda case: case.good)
# The helper of OpenAI's own client fails at the call of a custom tool in a stream, whoever sends it.
CUSTOM = parameters(*PROVIDERS, only=lambda case: case.good and case.stream and "custom-tool" in case.name)
HELPED = parameters(*PROVIDERS, only=lambda case: case.good and not (case.stream and "custom-tool" in case.name))


class Stage:
    """A provider of Responses that plays whatever recording is set, behind a gateway, and clients of both."""

    def __init__(self, ground: Ground, stack: ExitStack) -> None:
        self.case: Case | None = None
        self.provider: ScriptedProvider = ground.provider(self._play)
        self.running: Running = ground.gateway(leads_to(self.provider.url + "/v1", dialect="openai_responses"))
        self.straight = stack.enter_context(OpenAI(base_url=self.provider.url + "/v1", api_key="k", max_retries=0))
        self.through = stack.enter_context(OpenAI(base_url=self.running.url + "/v1", api_key="k", max_retries=0))
        self.anthropic = stack.enter_context(Anthropic(base_url=self.running.url, api_key="k", max_retries=0))

    async def _play(self, exchange: Exchange) -> None:
        assert self.case is not None
        await play(exchange, self.case)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with closing(Ground()) as ground, ExitStack() as stack:
        yield Stage(ground, stack)


def told(case: Case) -> Said:
    return said(flat(measured(case.body)[1]) if case.stream else responses.read_whole(case.body))


@pytest.mark.parametrize("case", GOOD)
def test_a_recorded_response_is_read_alike(stage: Stage, case: Case) -> None:
    def events(ai: OpenAI) -> tuple[list[Any], str]:
        return heard(lambda: ai.responses.create(model="m", input="x", stream=case.stream), case.stream)

    stage.case = case
    straight, through = events(stage.straight), events(stage.through)
    assert straight[0]
    if "multi-message" in case.name:  # Four responses in a row: the first one's end is the end.
        straight = straight[0][: len(through[0])], straight[1]
    assert json.dumps(through) == json.dumps(straight)


@pytest.mark.parametrize("case", FAILED)
def test_a_failure_before_the_first_word_has_the_class_of_its_status(stage: Stage, case: Case) -> None:
    stage.case = case
    with pytest.raises(openai.RateLimitError) as caught:
        stage.through.responses.create(model="m", input="x", stream=True)
    assert caught.value.code == "insufficient_quota"


@pytest.mark.parametrize("case", HELPED)
def test_a_recorded_response_is_read_by_clients_of_chats(stage: Stage, case: Case) -> None:
    stage.case = case
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    expected = told(case)
    if case.stream:
        with stage.through.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
            reply: Any = finished(events)
    else:
        reply = stage.through.chat.completions.create(**asked)
    message = reply.choices[0].message
    assert (message.content or "", [*map(called, message.tool_calls or [])]) == (expected.text, expected.calls)
    assert reply.choices[0].finish_reason == expected.finish
    assert expected.usage is not None
    assert reply.usage.prompt_tokens == expected.usage.input_tokens
    assert reply.usage.completion_tokens == expected.usage.output_tokens


def called(call: Any) -> tuple[str, str, Any]:
    if call.type == "custom":
        return call.id, call.custom.name, {"input": call.custom.input}
    return call.id, call.function.name, json.loads(call.function.arguments)


@pytest.mark.parametrize("case", CUSTOM)
def test_the_call_of_a_custom_tool_is_streamed_to_clients_of_chats(stage: Stage, case: Case) -> None:
    stage.case = case
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    deltas = [chunk.choices[0].delta for chunk in stage.through.chat.completions.create(**asked) if chunk.choices]
    first, *rest = [piece for delta in deltas for piece in delta.tool_calls or []]
    ((id, name, given),) = told(case).calls
    assert (first.id, first.type, first.custom["name"]) == (id, "custom", name)
    assert "".join(piece.custom["input"] for piece in (first, *rest)) == given["input"]


def finished(events: Any) -> Any:
    """The last of it, also where the limit ended it, which the helper raises."""
    try:
        return events.get_final_completion()
    except openai.LengthFinishReasonError as error:
        return error.completion


@pytest.mark.parametrize("case", GOOD)
def test_a_recorded_response_is_read_by_anthropics_client(stage: Stage, case: Case) -> None:
    stage.case = case
    asked: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    expected = told(case)
    if case.stream:
        with stage.anthropic.messages.stream(**asked) as events:
            reply: Any = events.get_final_message()
    else:
        reply = stage.anthropic.messages.create(**asked)
    assert "".join(block.text for block in reply.content if block.type == "text") == expected.text
    assert "".join(block.thinking for block in reply.content if block.type == "thinking") == expected.reasoning
    tools = [(block.id, block.name, block.input) for block in reply.content if block.type == "tool_use"]
    assert tools == expected.calls
    stops = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}
    assert reply.stop_reason == stops[str(expected.finish)]
    assert expected.usage is not None
    read = reply.usage.cache_read_input_tokens or 0
    written = reply.usage.cache_creation_input_tokens or 0
    assert reply.usage.input_tokens + read + written == expected.usage.input_tokens
    assert reply.usage.output_tokens == expected.usage.output_tokens
