"""Rate limits in headers: as they are between one vendor's dialects, translated where that is exact, else nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.wire.limit_headers import LONGEST, MOST, duration, in_anthropics, in_openais, seconds, told

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
OPENAI = {
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-remaining-requests": "499",
    "x-ratelimit-reset-requests": "1m30s",
    "x-ratelimit-limit-tokens": "30000",
    "x-ratelimit-remaining-tokens": "29000",
    "x-ratelimit-reset-tokens": "2s",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "500",
    "anthropic-ratelimit-requests-remaining": "499",
    "anthropic-ratelimit-requests-reset": "2026-11-22T12:01:30Z",
    "anthropic-ratelimit-tokens-limit": "30000",
    "anthropic-ratelimit-tokens-remaining": "29000",
    "anthropic-ratelimit-tokens-reset": "2026-11-22T12:00:02Z",
}
OTHERS = {"x-request-id": "r", "set-cookie": "s", "openai-organization": "o", "anthropic-organization-id": "a"}
ALONE = {"x-ratelimit-limit-project-tokens": "7"}
PRIORITY = {"anthropic-ratelimit-input-tokens-limit": "9", "anthropic-ratelimit-input-tokens-remaining": "9"}


def now() -> datetime:
    return NOW


@pytest.mark.parametrize("dialect", ["openai.chat", "openai.responses", "openai.embeddings", "openai.completions"])
def test_between_openais_dialects_they_pass_as_they_are(dialect: str) -> None:
    assert told({**OPENAI, **ALONE, **OTHERS}, "openai.chat", dialect, now) == {**OPENAI, **ALONE}


def test_between_anthropics_dialects_they_pass_as_they_are() -> None:
    said = {**ANTHROPIC, **PRIORITY, **OTHERS}
    assert told(said, "anthropic.messages", "anthropic.count_tokens", now) == {**ANTHROPIC, **PRIORITY}


def test_what_both_have_is_translated_and_nothing_else() -> None:
    assert told({**OPENAI, **ALONE, **OTHERS}, "openai.chat", "anthropic.messages", now) == ANTHROPIC
    assert told({**ANTHROPIC, **PRIORITY, **OTHERS}, "anthropic.messages", "openai.chat", now) == OPENAI


@pytest.mark.parametrize(
    ("provider", "client"), [("gemini.generate", "openai.chat"), ("openai.chat", "gemini.generate")]
)
def test_gemini_has_no_such_headers(provider: str, client: str) -> None:
    assert told({**OPENAI, **ANTHROPIC}, provider, client, now) == {}


def test_a_vendor_speaks_only_by_its_own_names() -> None:
    assert told(ANTHROPIC, "openai.chat", "openai.chat", now) == {}


def test_what_a_server_sends_without_end_is_bounded() -> None:
    many = {f"x-ratelimit-{number}": "1" for number in range(1000)}
    assert len(told(many, "openai.chat", "openai.chat", now)) == MOST
    assert told({"x-ratelimit-a": "1" * (LONGEST + 1)}, "openai.chat", "openai.chat", now) == {}


@pytest.mark.parametrize("wrong", ["", "-1", "1.5", "many", "²", "9" * 19])
def test_what_is_no_count_is_not_translated(wrong: str) -> None:
    assert in_anthropics({**OPENAI, "x-ratelimit-limit-requests": wrong}, NOW).keys() == {
        name for name in ANTHROPIC if "tokens" in name
    }


@pytest.mark.parametrize("wrong", ["", "12", "soon", "1s2m", "99999999s", "1700000000000"])
def test_a_reset_that_means_something_else_is_left_out(wrong: str) -> None:
    said = in_anthropics({**OPENAI, "x-ratelimit-reset-requests": wrong}, NOW)
    assert "anthropic-ratelimit-requests-reset" not in said
    assert said["anthropic-ratelimit-requests-limit"] == "500"


@pytest.mark.parametrize("wrong", ["", "12", "2026-11-22T12:00:00", "9999-01-01T00:00:00Z", "x"])
def test_a_moment_that_is_none_is_left_out(wrong: str) -> None:
    assert "x-ratelimit-reset-requests" not in in_openais(
        {**ANTHROPIC, "anthropic-ratelimit-requests-reset": wrong}, NOW
    )


def test_a_reset_in_the_past_is_now() -> None:
    past = {**ANTHROPIC, "anthropic-ratelimit-requests-reset": "2026-11-22T11:00:00Z"}
    assert in_openais(past, NOW)["x-ratelimit-reset-requests"] == "0ms"


@pytest.mark.parametrize(
    ("text", "length"),
    [("12ms", 0.012), ("1.5s", 1.5), ("6m0s", 360), ("2h0m3s", 7203), ("1d", 86_400), ("2m59.56s", 179.56)],
)
def test_durations_as_openai_and_its_kin_write_them(text: str, length: float) -> None:
    assert seconds(text) == pytest.approx(length)


@given(st.floats(min_value=0, max_value=10**6))
def test_a_duration_that_is_written_is_read_as_no_less(length: float) -> None:
    read = seconds(duration(length))
    assert read is not None
    assert length <= read + 1e-6
    assert read <= length + 1.001
