"""What is lost between dialects: what is declared of each is true, and nothing is lost in silence."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from sidegate.contract.meaning import FileContent, ImageContent, Request, ToolResult
from sidegate.wire import words
from sidegate.wire.body import encode, read_fields
from sidegate.wire.dialect import Fields
from sidegate.wire.registry import DIALECTS
from sidegate.wire.translation import MOST_NAMES, Untranslatable, bounded, features, header_of, translated
from sidegate.wire.unsaid import unsaid
from sidegate.wire.words import FEATURES, PROVIDERS, WORDS, Loss
from tests.wire.asking import ALONE, ASKS, asked, read

PAIRS = [(client, provider) for client in ASKS for provider in PROVIDERS if client != provider]
across = pytest.mark.parametrize(("client", "provider"), PAIRS)


def say(client: str, provider: str, fields: Fields, *, strict: bool = False) -> tuple[Request, list[str]]:
    """What the provider reads of it, and what was dropped."""
    body, dropped = translated(client, read(client, fields), fields, DIALECTS[provider], strict=strict)
    raw: Fields = {name: encode(value) for name, value in body.items()}
    dialect = DIALECTS[provider]
    adapted = dialect.adapt(raw, model="m", stream=False)
    return dialect.read_request(dialect.place(adapted, model="m", stream=False)), dropped


def of(request: Request, feature: str) -> Any:
    """What a request says of a feature, to be compared across dialects."""
    pieces = [piece for message in request.messages for piece in message.content]
    results = [piece for piece in pieces if isinstance(piece, ToolResult)]
    name = feature.split(".")[-1]
    match feature:
        case "system":
            return [message.text for message in request.messages if message.role == "system"]
        case "messages.name":
            return [message.name for message in request.messages]
        case "tool_result.is_error":
            return [result.is_error for result in results]
        case "tool_result.image":
            shown = [*pieces, *(one for result in results for one in result.content)]
            return [one.data for one in shown if isinstance(one, ImageContent)]
        case "messages.content.image.detail":
            return [piece.detail for piece in pieces if isinstance(piece, ImageContent)]
        case "messages.content.tool_call" | "messages.content.tool_result" | "messages.content.image":
            kind = {"tool_call": "ToolUse", "tool_result": "ToolResult", "image": "ImageContent"}[name]
            return [piece for piece in pieces if type(piece).__name__ == kind]
        case "messages.content.file":
            return [(piece.data, piece.media_type) for piece in pieces if isinstance(piece, FileContent)]
        case "messages.content.file.id":
            return [piece.file_id for piece in pieces if isinstance(piece, FileContent)]
        case "tools":
            return [(tool.name, tool.parameters) for tool in request.tools]
        case "tools.strict":
            return [tool.strict for tool in request.tools]
        case "response_format.json_object" | "response_format.json_schema":
            return request.response_format and (request.response_format.kind, request.response_format.schema)
        case "reasoning_effort":
            # Models before Gemini 3 are told a budget.
            return request.reasoning_effort or request.reasoning_tokens
        case _:
            return getattr(request, feature)


def outcome(client: str, provider: str, fields: Fields, feature: str, *, strict: bool = False) -> str:
    try:
        heard, dropped = say(client, provider, fields, strict=strict)
    except Untranslatable as error:
        return "refused" if (error.status, error.param) == (400, WORDS[client].get(feature, feature)) else str(error)
    if dropped:
        assert dropped == [feature]
        return "dropped"
    was = of(read(client, fields), feature)
    told = of(heard, feature)
    if feature == "reasoning_effort" and provider == "gemini.generate":
        assert (was, told) == ("low", 1024)
    else:
        assert told == was
    return "works"


def declared(client: str, provider: str, feature: str) -> str:
    if feature == "messages.content.file.id" and client.partition(".")[0] != provider.partition(".")[0]:
        return "refused"
    if feature in WORDS[provider]:
        return "works"
    return words.LOSSES[feature].value


def test_every_word_has_a_sample_and_a_feature() -> None:
    for dialect, known in WORDS.items():
        # A tool's image is no part of a chat's result: it is said, but not asked.
        assert known.keys() - {"tool_result.image"} <= ASKS[dialect].keys() <= known.keys(), dialect
        assert known.keys() <= words.LOSSES.keys()
        assert ALONE[dialect].keys() == set(words.ALONE[dialect])
    assert set(PROVIDERS) < set(WORDS) == set(words.TITLES)


@across
def test_each_feature_works_is_dropped_or_is_refused_as_declared(client: str, provider: str) -> None:
    for feature, fields in ASKS[client].items():
        told = asked(client, fields)
        expected = declared(client, provider, feature)
        assert outcome(client, provider, told, feature) == expected, feature
        strict = "works" if expected == "works" else "refused"
        assert outcome(client, provider, told, feature, strict=strict == "refused") == strict, feature


@across
def test_what_works_works_where_nothing_may_be_lost(client: str, provider: str) -> None:
    for feature, fields in ASKS[client].items():
        if declared(client, provider, feature) == "works":
            assert outcome(client, provider, asked(client, fields), feature, strict=True) == "works", feature


@across
def test_what_one_dialect_alone_knows_and_means_more_is_refused(client: str, provider: str) -> None:
    for name, fields in ALONE[client].items():
        with pytest.raises(Untranslatable) as caught:
            say(client, provider, asked(client, fields))
        assert (caught.value.param, caught.value.code) == (name, "unsupported_field")


@across
def test_what_nobody_knows_is_dropped_and_named_or_refused_where_nothing_may_be_lost(
    client: str, provider: str
) -> None:
    fields = asked(client, {"a_field_of_tomorrow": 1, "a_null": None, "an_empty": []})
    if client == "ai_sdk.ui_messages":
        # There, what is not the SDK's is the app's own, and was never meant for a model.
        assert say(client, provider, fields, strict=True)[1] == []
        return
    assert say(client, provider, fields)[1] == ["a_field_of_tomorrow"]
    with pytest.raises(Untranslatable) as caught:
        say(client, provider, fields, strict=True)
    assert caught.value.param == "a_field_of_tomorrow"


@across
def test_a_plain_request_loses_nothing(client: str, provider: str) -> None:
    assert say(client, provider, asked(client), strict=True)[1] == []


DEEP = [
    ("anthropic.messages", "messages.content.cache_control", {"type": "text", "text": "x", "cache_control": {"a": 1}}),
    (
        "anthropic.messages",
        "messages.content.citations",
        {"type": "document", "source": {"type": "text", "data": "x"}, "citations": {"enabled": True}},
    ),
    ("openai.chat", "messages.content.cache_control", {"type": "text", "text": "x", "cache_control": {"a": 1}}),
]


@pytest.mark.parametrize(("client", "name", "piece"), DEEP)
def test_fields_deep_in_a_request_are_named_too(client: str, name: str, piece: dict[str, Any]) -> None:
    fields = asked(client, {"messages": [{"role": "user", "content": [piece]}]})
    assert say(client, "gemini.generate", fields)[1] == [name]
    with pytest.raises(Untranslatable, match=name):
        say(client, "gemini.generate", fields, strict=True)


def test_fields_deep_in_gemini_are_known_in_both_cases() -> None:
    call = {"function_call": {"name": "f", "args": {"x_y": 1}, "will_continue": True}, "thought_signature": "AA=="}
    fields = asked("gemini.generate", {"contents": [{"role": "model", "parts": [call]}]})
    assert unsaid("gemini.generate", fields) == {"contents.parts.functionCall.will_continue": [True]}


def test_what_asks_for_nothing_is_no_loss() -> None:
    message: dict[str, Any] = {"role": "assistant", "content": "x", "refusal": None, "annotations": [], "audio": None}
    fields = asked(
        "openai.chat", {"messages": [message]}, logprobs=False, store=False, modalities=["text"], service_tier=None
    )
    assert say("openai.chat", "anthropic.messages", fields, strict=True)[1] == []


def test_one_call_more_or_less_at_a_time_is_no_loss_where_nothing_is_asked() -> None:
    fields = asked("openai.chat", ASKS["openai.chat"]["tools"], parallel_tool_calls=True)
    assert say("openai.chat", "gemini.generate", fields, strict=True)[1] == []


def test_values_that_do_not_fit_are_dropped_or_refused() -> None:
    hot = asked("openai.chat", temperature=1.7)
    assert say("openai.chat", "anthropic.messages", hot)[1] == ["temperature"]
    with pytest.raises(Untranslatable, match="temperature"):
        say("openai.chat", "anthropic.messages", hot, strict=True)
    assert say("openai.chat", "gemini.generate", asked("openai.chat", seed=2**40))[1] == ["seed"]
    assert say("openai.chat", "anthropic.messages", asked("openai.chat", reasoning_effort="none"))[1] == [
        "reasoning_effort"
    ]


def test_content_a_user_says_is_never_dropped_and_what_another_provider_did_is() -> None:
    spoken = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    with pytest.raises(Untranslatable, match=r"messages\.content\.input_audio"):
        say(
            "openai.chat",
            "gemini.generate",
            asked("openai.chat", {"messages": [{"role": "user", "content": [spoken]}]}),
        )
    searched = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    turns = [{"role": "assistant", "content": [searched, {"type": "text", "text": "x"}]}]
    fields = asked("anthropic.messages", {"messages": turns})
    assert say("anthropic.messages", "openai.chat", fields)[1] == ["messages.content.server_tool_use"]


def test_the_header_is_bounded_and_holds_nothing_but_names() -> None:
    assert header_of(["b", "a", "b"]) == "a, b"
    assert header_of(["x\r\nset-cookie: y=1", "ключ, z"]) == "______z, x__set-cookie__y_1"
    many = header_of([f"field_{number:03}" for number in range(500)])
    assert many.count(",") == MOST_NAMES
    assert many.endswith(", ...")
    assert len(header_of(["x" * 10_000])) <= 80
    assert bounded(["x" * 10_000] * 90) == ("x" * 80,) * MOST_NAMES


def test_features_are_found_in_what_is_meant() -> None:
    assert features(Request(model="m")) == []
    assert features(replace(Request(model="m"), choices=1, parallel_tool_calls=True, tool_choice="auto")) == []


def test_a_loss_is_of_a_feature_and_not_of_a_pair() -> None:
    dangerous = {feature.name for feature in FEATURES if feature.loss is Loss.REFUSED}
    assert {"tools", "messages.content.image", "messages.content.file", "response_format.json_schema"} <= dangerous


def test_a_field_of_another_dialect_is_unknown_and_dropped_by_its_own_name() -> None:
    """Responses say `max_output_tokens`: what else the provider would mean by `max_tokens`, nobody asked for it."""
    fields = {**asked("openai.responses"), "max_tokens": encode(50)}
    request, lost = say("openai.responses", "openai.chat", fields)
    assert (request.max_tokens, lost) == (None, ["max_tokens"])
    with pytest.raises(Untranslatable) as refused:
        say("openai.responses", "openai.chat", fields, strict=True)
    assert refused.value.param == "max_tokens"


def test_a_strict_refusal_is_told_in_the_clients_words() -> None:
    fields = asked("gemini.generate", generationConfig={"topK": 4})
    with pytest.raises(Untranslatable) as caught:
        say("gemini.generate", "openai.chat", fields, strict=True)
    assert caught.value.param == "generationConfig.topK"
    assert caught.value.message.startswith("generationConfig.topK: A provider of OpenAI Chat")
    told = DIALECTS["gemini.generate"].write_error(caught.value, "r1")
    assert msgspec.json.decode(told)["error"]["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("provider", ["gemini.batch_embed", "gemini.embed"])
def test_what_is_embedded_loses_nothing_but_the_user(provider: str) -> None:
    client = "openai.embeddings"
    fields = read_fields(b'{"model": "m", "input": "Hi", "dimensions": 8, "encoding_format": "base64", "user": "u"}')
    request = DIALECTS[client].read_request(fields)
    _, dropped = translated(client, request, fields, DIALECTS[provider], strict=False)
    assert dropped == ["user"]
    with pytest.raises(Untranslatable, match="user"):
        translated(client, request, fields, DIALECTS[provider], strict=True)
    tokens = read_fields(b'{"model": "m", "input": [1, 2]}')
    with pytest.raises(Untranslatable):
        translated(client, DIALECTS[client].read_request(tokens), tokens, DIALECTS[provider], strict=False)


@pytest.mark.parametrize(("client", "provider"), [("anthropic", "gemini"), ("gemini", "anthropic")])
def test_what_is_counted_is_what_is_asked(client: str, provider: str) -> None:
    chat = {"anthropic": "anthropic.messages", "gemini": "gemini.generate"}[client]
    fields = {name: raw for name, raw in asked(chat).items() if name != "max_tokens"}
    request = DIALECTS[f"{client}.count_tokens"].read_request(fields)
    other = DIALECTS[f"{provider}.count_tokens"]
    assert translated(f"{client}.count_tokens", request, fields, other, strict=True)[1] == []
