"""Signatures of thinking come back to the vendor that made them, through any client, and reach no other."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.contract.meaning import (
    BlockEnd,
    End,
    Finish,
    Part,
    Reasoning,
    Start,
    Text,
    ToolCall,
)
from sidegate.wire import seals
from sidegate.wire.body import read_fields
from sidegate.wire.registry import DIALECTS
from sidegate.wire.translation import translated
from tests.wire.saying import assembled, written

VENDORS = {"anthropic.messages": "anthropic", "gemini.generate": "gemini", "openai.responses": "openai"}
"""By the dialect of providers that seal what is thought."""
CLIENTS = ("openai.chat", "openai.responses", "anthropic.messages", "gemini.generate")
SEALED = "c2VhbGVkIGJ5IG1l"
HIDDEN = "aGlkZGVu"

pairs = pytest.mark.parametrize(("provider", "client"), [(p, c) for p in VENDORS for c in CLIENTS])


def thoughts(provider: str) -> list[Part]:
    """What a provider thinks and says."""
    vendor = VENDORS[provider]
    sealed = Reasoning("", 0, 0, SEALED, None, vendor)
    calls: list[Part] = [ToolCall('{"a":1}', "c1", "f", block=5), BlockEnd(block=5)]
    hidden: list[Part] = []
    if vendor == "anthropic":
        hidden = [Reasoning("", 0, 1, None, HIDDEN, vendor), BlockEnd(block=1)]
    elif vendor == "gemini":
        calls.insert(0, Reasoning("", 0, 4, HIDDEN, None, vendor))
    said: list[Part] = [Reasoning("I ", 0, 0), Reasoning("think.", 0, 0), sealed, BlockEnd(block=0)]
    return [Start(), *said, *hidden, Text("So.", block=2), BlockEnd(block=2), *calls, Finish("tool_calls"), End()]


def next_request(client: str, parts: list[Part]) -> dict[str, Any]:
    """The next request, in which the client gives back the reply."""
    whole = msgspec.json.decode(assembled(DIALECTS[client], [parts]))
    if client == "openai.chat":
        return {"messages": [{"role": "user", "content": "x"}, whole["choices"][0]["message"]]}
    if client == "openai.responses":
        return {"input": [{"role": "user", "content": "x"}, *whole["output"]]}
    if client == "gemini.generate":
        return {"contents": [{"role": "user", "parts": [{"text": "x"}]}, whole["candidates"][0]["content"]]}
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": whole["content"]}]
    return {"messages": turns, "max_tokens": 9}


def asked_again(client: str, provider: str, parts: list[Part]) -> tuple[dict[str, Any], list[str]]:
    """What a provider is asked with the reply given back, and what was dropped."""
    body = next_request(client, parts)
    fields = read_fields(msgspec.json.encode({"model": "gemini-3-pro", **body}))
    request = DIALECTS[client].read_request(fields)
    return translated(client, request, fields, DIALECTS[provider], strict=False)


def sealed_in(provider: str, body: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The thinking in a request, by its provider's words."""
    if provider == "anthropic.messages":
        blocks = body["messages"][1]["content"]
        return [
            (block.get("thinking"), block.get("signature") or block.get("data"))
            for block in blocks
            if block["type"].endswith("thinking")
        ]
    if provider == "openai.responses":
        items = [item for item in body["input"] if item["type"] == "reasoning"]
        return [("".join(one["text"] for one in item["summary"]), item["encrypted_content"]) for item in items]
    parts = [part for part in body["contents"][1]["parts"] if "thoughtSignature" in part]
    return [(part.get("text"), part["thoughtSignature"]) for part in parts]


EXPECTED = {
    "anthropic.messages": [("I think.", SEALED), (None, HIDDEN)],
    "openai.responses": [("I think.", SEALED)],
    "gemini.generate": [("I think.", SEALED), (None, HIDDEN)],
}


@pairs
def test_a_signature_comes_back_to_its_vendor_whole(provider: str, client: str) -> None:
    body, dropped = asked_again(client, provider, thoughts(provider))
    if client == provider:
        # Not translated at all, but written anew where a plugin changed it.
        assert SEALED in str(body)
        return
    assert sealed_in(provider, body) == EXPECTED[provider]
    assert [name for name in dropped if "reasoning" in name] == []


@pairs
def test_a_signature_reaches_no_other_vendor_and_that_is_named(provider: str, client: str) -> None:
    for other in CLIENTS:
        if VENDORS.get(other) == VENDORS[provider] or other == client:
            continue
        body, dropped = asked_again(client, other, thoughts(provider))
        text = str(body)
        assert SEALED not in text
        assert HIDDEN not in text
        assert not [mark for mark in (*seals.VENDORS, "redacted") if f"{mark}:" in text]
        assert [name for name in dropped if name.startswith("messages.content.reasoning")], other
        assert "So." in text


@pairs
def test_a_stream_says_the_signature_that_the_body_says(provider: str, client: str) -> None:
    """What a client keeps of events is one string: it is there whole, and nowhere else."""
    stream = written(DIALECTS[client], [[part] for part in thoughts(provider)]).decode()
    whole = assembled(DIALECTS[client], [thoughts(provider)]).decode()
    own = VENDORS.get(client) == VENDORS[provider]
    marked = seals.marked(VENDORS.get(client, VENDORS[provider]), VENDORS[provider], SEALED) or ""
    place = seals.encoded(VENDORS[provider], SEALED) if client == "gemini.generate" else marked
    assert place is not None
    assert (place == SEALED) is (own or client == "openai.chat")
    assert place in whole
    assert place in stream


def test_what_openrouter_says_of_its_vendors_is_understood() -> None:
    details = [
        {"type": "reasoning.summary", "summary": "Hm.", "format": "openai-responses-v1"},
        {"type": "reasoning.encrypted", "data": "abc", "format": "openai-responses-v1"},
        {"type": "reasoning.text", "text": "a", "signature": "s", "format": "anthropic-claude-v2"},
        {"type": "reasoning.encrypted", "data": "d", "format": "tomorrow-v1"},
        {"type": "reasoning.text"},
        {"type": 7},
    ]
    message = {"role": "assistant", "content": "x", "reasoning_details": details}
    fields = read_fields(msgspec.json.encode({"model": "m", "messages": [message]}))
    request = DIALECTS["openai.chat"].read_request(fields)
    body, dropped = translated("openai.chat", request, fields, DIALECTS["openai.responses"], strict=False)
    assert [item["encrypted_content"] for item in body["input"] if item["type"] == "reasoning"] == ["abc"]
    body, dropped = translated("openai.chat", request, fields, DIALECTS["anthropic.messages"], strict=False)
    assert body["messages"][0]["content"][0] == {"type": "thinking", "thinking": "a", "signature": "s"}
    assert dropped == ["messages.content.reasoning"]


@given(st.sampled_from((None, *seals.VENDORS)), st.text(alphabet=st.characters(codec="ascii"), min_size=1))
def test_any_seal_comes_out_of_any_place_as_it_went_in(vendor: str | None, text: str) -> None:
    if ":" in text[:20]:
        return
    for own in seals.VENDORS:
        place = seals.marked(own, vendor, text)
        assert place is not None
        assert seals.unmarked(own, place) == seals.Seal(vendor or own, text)
        assert seals.unmarked(own, seals.marked(own, vendor, None, text) or "") == seals.Seal("anthropic", None, text)
    place = seals.encoded(vendor, text)
    assert place is not None
    if vendor not in (None, "gemini"):
        assert seals.decoded(place) == seals.Seal(vendor, text)


@given(st.text())
def test_no_place_holds_anything_that_breaks_a_reader(text: str) -> None:
    seals.unmarked("openai", text)
    seals.decoded(text)
