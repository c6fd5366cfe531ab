"""The fields everybody knows: held to the same bounds as where the whole request is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidegate.errors import BadRequest
from sidegate.wire.basics import read_basics
from sidegate.wire.body import read_fields
from sidegate.wire.registry import DIALECTS

RIGHT: dict[str, dict[str, Any]] = {
    "openai.chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "openai.completions": {"model": "m", "prompt": "hi"},
    "openai.embeddings": {"model": "m", "input": "hi"},
    "openai.responses": {"model": "m", "input": "hi"},
    "anthropic.messages": {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]},
}
VALUES: tuple[Any, ...] = (
    None,
    True,
    "1",
    "",
    0,
    1,
    -1,
    0.5,
    1.5,
    2.5,
    129,
    2**31,
    10**40,
    [],
    [1],
    ["hi"],
    {},
    {"include_usage": True},
)
NAMES = (
    *("model", "messages", "prompt", "input", "stream", "stream_options", "max_tokens", "max_completion_tokens"),
    "max_output_tokens",
    *("temperature", "top_p", "n", "frequency_penalty", "presence_penalty", "dimensions"),
)


def problem(dialect: str, fields: dict[str, Any], *, whole: bool) -> str | None:
    """What is said to be wrong."""
    body = json.dumps(fields).encode()
    try:
        if whole:
            DIALECTS[dialect].read_request(read_fields(body))
        else:
            read_basics(dialect, body)
    except BadRequest as error:
        return error.param
    return None


@pytest.mark.parametrize("dialect", RIGHT)
@pytest.mark.parametrize("name", NAMES)
def test_what_the_basics_refuse_the_whole_reading_refuses_too(dialect: str, name: str) -> None:
    for value in VALUES:
        fields = {**RIGHT[dialect], name: value}
        if (said := problem(dialect, fields, whole=False)) is not None:
            assert said == problem(dialect, fields, whole=True), (name, value)


@pytest.mark.parametrize("dialect", RIGHT)
def test_numbers_and_kinds_that_the_whole_reading_refuses_the_basics_refuse_too(dialect: str) -> None:
    for name in set(NAMES) - {"messages", "prompt", "input"}:
        for value in VALUES:
            fields = {**RIGHT[dialect], name: value}
            whole, basics = (problem(dialect, fields, whole=whole) for whole in (True, False))
            assert whole == basics, (name, value)


@pytest.mark.parametrize("dialect", RIGHT)
def test_what_is_right_is_taken(dialect: str) -> None:
    basics = read_basics(dialect, json.dumps({**RIGHT[dialect], "stream": True, "new": {"unknown": [1]}}).encode())
    assert (basics.model, basics.streams, basics.wants_usage) == ("m", dialect != "openai.embeddings", False)


@pytest.mark.parametrize(
    ("options", "wants"),
    [
        ({"include_usage": True}, True),
        ({"include_usage": False, "include_obfuscation": True}, False),
        ({"include_obfuscation": True}, False),
        ({"include_usage": None}, False),
        ({}, False),
        (None, False),
    ],
)
def test_usage_is_wanted_where_it_is_asked_for(options: dict[str, Any] | None, wants: bool) -> None:
    body = json.dumps({**RIGHT["openai.chat"], "stream_options": options}).encode()
    assert read_basics("openai.chat", body).wants_usage is wants
