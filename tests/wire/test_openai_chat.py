"""Chat Completions: a client's own request on its way to a provider."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidegate.errors import BadRequest
from sidegate.wire.body import read_fields, write_fields
from tests.wire.openai_saying import chat


def adapted(request: dict[str, Any], stream: bool) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        write_fields(chat.adapt(read_fields(json.dumps(request).encode()), model="real", stream=stream))
    )
    return found


def test_a_stream_is_asked_for_its_usage_and_nothing_else_is_touched() -> None:
    request = {"model": "m", "x": {"y": 1.50}, "stream": True, "stream_options": {"include_obfuscation": False}}
    assert adapted(request, True) == {
        "model": "real",
        "x": {"y": 1.5},
        "stream": True,
        "stream_options": {"include_obfuscation": False, "include_usage": True},
    }
    assert adapted({"model": "m", "stream_options": {"include_usage": False}}, True)["stream_options"] == {
        "include_usage": True
    }


def test_a_buffered_request_says_nothing_of_streams() -> None:
    assert adapted({"model": "m"}, False) == {"model": "real"}
    request = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
    assert adapted(request, False) == {"model": "real", "stream": False}


def test_wrong_stream_options_are_a_400() -> None:
    with pytest.raises(BadRequest) as raised:
        adapted({"model": "m", "stream_options": 3}, True)
    assert raised.value.param == "stream_options"
