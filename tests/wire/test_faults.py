"""What a provider's failure becomes."""

from __future__ import annotations

import pytest

from sidegate.errors import ProviderError, ReplyError
from sidegate.wire import faults
from tests.wire.recordings import Case, parameters


def error(status: int, message: str | None = "words", **said: str) -> ProviderError:
    return faults.provider_error(status, {}, message=message, **said)


@pytest.mark.parametrize("status", [400, 404, 408, 409, 413, 422])
def test_the_clients_own_mistake_keeps_status_and_words(status: int) -> None:
    found = error(status, "No such model.", code="model_not_found", param="model", type="invalid_request_error")
    assert (found.status, found.message, found.code, found.param) == (
        status,
        "No such model.",
        "model_not_found",
        "model",
    )
    assert found.provider_status == status


@pytest.mark.parametrize("status", [401, 402, 403, 407])
def test_a_refused_key_is_the_gateways_fault_and_not_shown(status: int) -> None:
    found = error(status, "Incorrect API key provided: sk-proj-1234567890abcdef", code="invalid_api_key")
    assert (found.status, found.code, found.retryable) == (502, "provider_auth", False)
    assert "1234567890" not in found.message
    assert found.provider_status == status


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        (500, 502, "provider_error"),
        (502, 502, "provider_error"),
        (599, 502, "provider_error"),
        (503, 503, "provider_overloaded"),
        (529, 503, "provider_overloaded"),
        (504, 504, "provider_timeout"),
    ],
)
def test_the_providers_state_is_told_in_general_words_and_may_be_retried(status: int, told: int, code: str) -> None:
    found = error(status, "stack trace at internal.host:443")
    assert (found.status, found.code, found.retryable, found.provider_status) == (told, code, True, status)
    assert "internal" not in found.message


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_a_bad_reply_and_not_retried(status: int) -> None:
    found = error(status)
    assert isinstance(found, ReplyError)
    assert (found.status, found.retryable, found.provider_status) == (502, False, status)


@pytest.mark.parametrize("status", [100, 204, 206, 405, 418, 451])
def test_any_other_status_is_a_bad_reply(status: int) -> None:
    found = error(status)
    assert isinstance(found, ReplyError)
    assert (found.status, found.provider_status) == (502, status)


def test_a_rate_limit_keeps_its_wait_and_may_be_retried() -> None:
    found = faults.provider_error(429, {"Retry-After": "7"}, message="slow down", code="rate_limit_exceeded")
    assert (found.status, found.retry_after, found.retryable, found.code) == (429, 7.0, True, "rate_limit_exceeded")


def test_an_empty_account_is_not_retried() -> None:
    assert not error(429, "You exceeded your quota", code="insufficient_quota").retryable
    assert not error(429, "You exceeded your quota", type="insufficient_quota").retryable


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"RETRY-AFTER-MS": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT"}, 10.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 99 Oct 99999 99:99:99"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_read_from_every_header(headers: dict[str, str], seconds: float | None) -> None:
    assert faults.retry_after(headers, now=1792567680.0) == seconds


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcDEF123456",
        "sk-ant-api03-abc_def-123456",
        "Bearer abc.def.ghi",
        "bearer   token123456",
        "key-0123456789abcdef",
        "AIzaSyA1234567890abcdefgh",
        "gsk_abcdef1234567890",
        "xai-abcdef1234567890",
    ],
)
def test_anything_like_a_key_is_masked(secret: str) -> None:
    found = error(400, f"Bad key '{secret}' given", code=secret, param=secret, type=secret)
    for words in (found.message, found.code, found.param, found.type):
        assert words is not None
        assert secret.split()[-1] not in words
    assert found.message.startswith("Bad key '***")
    assert found.message.endswith("' given")


def test_ordinary_words_are_not_masked() -> None:
    text = "The task-oriented risk-based key of model gpt-4o-mini-2024-07-18 is unknown."
    assert faults.clean(text) == text


def test_words_are_bounded_and_without_control_characters() -> None:
    found = error(400, "a\r\nb\x00\x1b[31m" + "x" * 100_000, code="c" * 9000)
    assert found.message.startswith("a b [31m")
    assert len(found.message) <= 2000
    assert len(found.code) <= 200


@pytest.mark.parametrize(
    ("body", "message", "code", "status"),
    [
        (b'{"error":{"message":"m","type":"t","param":null,"code":"c"}}', "m", "c", None),
        (b'{"error":"text"}', "text", None, None),
        (b'{"code":"invalid-argument","error":"text"}', "text", "invalid-argument", None),
        (b'{"detail":"Invalid API Key"}', "Invalid API Key", None, None),
        (
            b'{"detail":[{"loc":["body"],"msg":"field required"},{"msg":"too long"}]}',
            "field required; too long",
            None,
            None,
        ),
        (b'{"message":"m","code":"c"}', "m", "c", None),
        (b'{"object":"error","message":"m","code":400}', "m", None, 400),
        (b'{"error":{"code":"401","message":"m"}}', "m", None, 401),
        (b'{"error":{"code":429,"message":"m","metadata":{"raw":"x"}}}', "m", None, 429),
        (b'[{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}]', "m", None, 503),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}', "m", None, None),
        (b"<html><body>502</body></html>", None, None, None),
        (b"", None, None, None),
        (b"null", None, None, None),
        (b"[[[1]]]", None, None, None),
        (b'{"error":{"message":{"a":1},"code":[]}}', None, None, None),
        (b'{"error":{"message":"m","code":99999}}', "m", None, None),
        (b"[" * 100_000, None, None, None),
        (b'"\xff"', None, None, None),
    ],
)
def test_every_shape_of_error_is_read(body: bytes, message: str | None, code: str | None, status: int | None) -> None:
    found = faults.error_object(body)
    assert (found.message, found.code, found.status) == (message, code, status)


@pytest.mark.parametrize(
    ("fault", "status", "retryable"),
    [
        (faults.Fault("m", status=429), 429, True),
        (faults.Fault("m", code="rate_limit_exceeded"), 429, True),
        (faults.Fault("m", type="overloaded_error"), 503, True),
        (faults.Fault("m", type="server_error"), 502, True),
        (faults.Fault("m", type="api_error"), 502, True),
        (faults.Fault(), 502, True),
        (faults.Fault("m", type="invalid_request_error"), 400, False),
        (faults.Fault("m", type="authentication_error"), 502, False),
        (faults.Fault("m", code="insufficient_quota"), 429, False),
    ],
)
def test_a_failure_inside_a_200_is_judged_by_status_or_words(fault: faults.Fault, status: int, retryable: bool) -> None:
    found = faults.fault_error(fault)
    assert (found.status, found.retryable) == (status, retryable)


PROVIDERS = [f"{name}/" for name in ("openai", "azure", "groq", "mistral", "deepseek", "openrouter", "xai")]


@pytest.mark.parametrize("case", parameters(*PROVIDERS, only=lambda case: case.status >= 400))
def test_recorded_error_replies_say_something_and_show_no_key(case: Case) -> None:
    fault = faults.error_object(case.body)
    assert fault.message
    found = faults.provider_error(case.status, case.meta["headers"], message=fault.message, code=fault.code)
    assert found.provider_status == case.status
    assert found.status in (400, 404, 429, 502, 503)
    if found.status in (400, 404, 429):
        assert found.message == faults.clean(fault.message)
