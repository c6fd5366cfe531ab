"""What the vendors' clients for Node raise for each failure, of the provider and of the gateway itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from typing import Any

import pytest

from sidegate.contract import Call, Handler, Plugin, Reply
from sidegate.errors import Refusal
from sidegate.testing import Exchange, Script
from sidegate.testing.voices import VOICES, WORDS
from tests.node.process import Node
from tests.node.stage import Stage
from tests.node.test_heard import DIALECT_OF, each_client, hears
from tests.sdk.ground import Ground

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])

TOLD = {400: 400, 401: 502, 403: 502, 404: 404, 413: 413, 422: 422, 429: 429, 500: 502, 503: 503, 529: 503}
"""A provider's status, and the client's: the key that a provider does not take is the gateway's."""
CLASSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    502: "InternalServerError",
    503: "InternalServerError",
}
"""What the clients of OpenAI and of Anthropic, which are of one make, raise."""
ANTHROPIC_CLASSES = {**CLASSES, 413: "ContentTooLargeError", 503: "ServiceUnavailableError"}
AGAIN = {429, 502, 503}


def refuses(dialect: str, status: int, **headers: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.reply(VOICES[dialect].failure("Said by it."), status, **headers)

    return script


def raised(client: str, heard: Any) -> tuple[Any, int]:
    """The error and its status, as this client has it."""
    assert heard["text"] == ""
    error = heard["error"]
    return error, error["status"]


def looks_right(client: str, error: Any, status: int) -> None:
    """The error has the class that its client has for the status."""
    if client.startswith("ai"):
        assert error["class"] == "APICallError"
        assert error["isRetryable"] is (status in AGAIN)
    elif client == "google":
        assert error["class"] == "ApiError"
    else:
        classes = ANTHROPIC_CLASSES if client == "anthropic" else CLASSES
        assert error["class"] == classes.get(status, "APIError")


@both
@pytest.mark.parametrize("across", [False, True], ids=["same", "across"])
@each_client
def test_a_providers_status_is_the_clients_error(
    node: Node, stage: Stage, client: str, across: bool, stream: bool
) -> None:
    speaks = DIALECT_OF[client]
    dialect = {"openai": "anthropic"}.get(speaks, "openai") if across else speaks
    for status, told in TOLD.items():
        stage.plays(dialect, refuses(dialect, status))
        error, seen = raised(client, hears(node, client, stage, dialect, stream))
        assert seen == told, error
        looks_right(client, error, told)
        assert ("Said by it." in error["message"]) == (told == status and told < 500), error


@both
@each_client
def test_a_rate_limit_says_when_to_come_back(node: Node, stage: Stage, client: str, stream: bool) -> None:
    dialect = DIALECT_OF[client]
    stage.plays(dialect, refuses(dialect, 429, Retry_After="17"))
    error, status = raised(client, hears(node, client, stage, dialect, stream))
    assert status == 429
    if client == "google":
        assert '"retryDelay":"17s"' in error["message"].replace(" ", "")
    else:
        assert error["headers"]["retry-after"] == "17"


@each_client
@pytest.mark.parametrize("across", [False, True], ids=["same", "across"])
def test_an_error_in_mid_stream_is_raised_after_what_was_said(
    node: Node, stage: Stage, client: str, across: bool
) -> None:
    speaks = DIALECT_OF[client]
    dialect = {"openai": "anthropic"}.get(speaks, "openai") if across else speaks
    voice = VOICES[dialect]

    async def breaks(exchange: Exchange) -> None:
        await exchange.stream(*voice.begins(*WORDS[:2]), voice.failure_event("It broke."))

    stage.plays(dialect, breaks)
    heard = hears(node, client, stage, dialect, True)
    assert heard["text"] == "".join(WORDS[:2])
    assert heard["error"]["message"]


@each_client
def test_a_stream_that_is_cut_is_no_clean_end(node: Node, stage: Stage, client: str) -> None:
    dialect = DIALECT_OF[client]

    async def cut(exchange: Exchange) -> None:
        await exchange.stream(*VOICES[dialect].begins(*WORDS[:2]))

    stage.plays(dialect, cut)
    heard = hears(node, client, stage, dialect, True)
    assert heard["text"] == "".join(WORDS[:2])
    assert "error" in heard


# --- the gateway's own ------------------------------------------------------------------------------------------------


class Forbids(Plugin[None]):
    """Keeps everybody from a model."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.request.model == "forbidden":
            raise Refusal(403, "forbidden", "This model is not for you.")
        return await handler(call)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Stage]:
    """A gateway that knows one key, forbids one model, and takes 100 kB."""
    key = {"name": "app", "digest": "sha256:" + sha256(b"good-key").hexdigest()}
    plugins: list[dict[str, Any]] = [
        {"use": "api_key", "settings": {"keys": [key]}},
        {"use": f"{__name__}:Forbids"},
    ]
    with closing(Ground()) as ground:
        yield Stage(
            ground,
            pipelines={"main": {"plugins": plugins}},
            models={
                **{name: {"provider": name, "model": "real"} for name in VOICES},
                "forbidden": {"provider": "openai", "model": "real"},
            },
            server={"max_body_bytes": 100_000},
        )


@both
@each_client
def test_what_the_gateway_refuses_has_the_class_of_its_status(
    node: Node, guarded: Stage, client: str, stream: bool
) -> None:
    model = DIALECT_OF[client]
    error, status = raised(client, hears(node, client, guarded, model, stream, key="wrong-key"))
    assert status == 401, error
    assert "wrong-key" not in error["message"]
    error, status = raised(client, hears(node, client, guarded, "forbidden", stream, key="good-key"))
    assert status == 403, error
    looks_right(client, error, status)
    assert "not for you" in error["message"]
    error, status = raised(client, hears(node, client, guarded, "nobody", stream, key="good-key"))
    assert status == 404, error
    looks_right(client, error, status)
    long = "x" * 200_000
    error, status = raised(client, hears(node, client, guarded, model, stream, key="good-key", question=long))
    assert status == 413, error
    looks_right(client, error, status)
    assert "error" not in hears(node, client, guarded, model, stream, key="good-key")
