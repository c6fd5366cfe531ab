"""The vendors' own Python clients, blocking and async, and the ground on which they meet a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any, cast

import pytest
from anthropic import Anthropic, AsyncAnthropic
from openai import AsyncOpenAI, OpenAI

from sidegate.testing import Running, demo_config
from tests.sdk.ground import Blocking, Ground

OpenAIClient = Callable[..., OpenAI]
AnthropicClient = Callable[..., Anthropic]

KINDS = ["sync", "async"]


@pytest.fixture
def ground() -> Iterator[Ground]:
    with closing(Ground()) as made:
        yield made


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    """A gateway before the demo provider, flat out; it serves a whole module."""
    with closing(Ground()) as made:
        yield made.gateway(demo_config())


@pytest.fixture(params=KINDS)
def openai_at(request: pytest.FixtureRequest) -> Iterator[OpenAIClient]:
    """Makes OpenAI clients of a gateway, each closed at the end of the test; without retries unless asked for."""

    def make(running: Running, **named: Any) -> Any:
        settings = {"base_url": f"{running.url}/v1", "api_key": "client-key", "max_retries": 0, **named}
        return AsyncOpenAI(**settings) if request.param == "async" else OpenAI(**settings)

    yield from _clients(make, request.param)


@pytest.fixture(params=KINDS)
def anthropic_at(request: pytest.FixtureRequest) -> Iterator[AnthropicClient]:
    """The same for Anthropic's client, whose base URL has no `/v1`."""

    def make(running: Running, **named: Any) -> Any:
        settings = {"base_url": running.url, "api_key": "client-key", "max_retries": 0, **named}
        return AsyncAnthropic(**settings) if request.param == "async" else Anthropic(**settings)

    yield from _clients(make, request.param)


def _clients(make: Callable[..., Any], kind: str) -> Iterator[Callable[..., Any]]:
    with ExitStack() as stack:
        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        stack.callback(lambda: loop.run_until_complete(loop.shutdown_asyncgens()))

        def client(running: Running, **named: Any) -> Any:
            made = make(running, **named)
            return stack.enter_context(cast("Any", Blocking(made, loop) if kind == "async" else made))

        yield client
