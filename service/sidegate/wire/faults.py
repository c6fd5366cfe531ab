"""One policy for a provider's failures: what the client is told, and whether another try may help.

The client hears its own mistakes in the provider's words; of the provider's state, and of the gateway's key, it hears
nothing. Words that are passed on are bounded, without control characters, and with anything like a key masked.
"""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from sidegate.errors import ProviderError, ReplyError

if TYPE_CHECKING:
    from collections.abc import Mapping

MESSAGE_LIMIT = 2000
WORD_LIMIT = 200
_MOST = 20
"""Details of an error, and words in one of them."""

_CLIENTS_OWN = frozenset({400, 404, 408, 409, 413, 422})
_AUTH = frozenset({401, 402, 403, 407})
_AGAIN = frozenset({408, 409, 429})
"""Those of the client's that its SDK tries again by itself."""
_OVERLOADED = frozenset({503, 529})
_NEVER_AGAIN = frozenset({"insufficient_quota", "billing_hard_limit_reached"})

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_KEY = re.compile(
    r"(?i:\bbearer\s+)[^\s\"',;]+"
    r"|\b(?:(?:sk|pk|rk|gsk|xai)[-_]|key-)[A-Za-z0-9_\-*.]{6,}"
    r"|\bAIza[A-Za-z0-9_\-]{10,}"
)

# In-band errors state a class in words, in every dialect a little differently; the first that fits counts.
_STATUS_WORDS = (
    ("overloaded", 503),
    ("unavailable", 503),
    ("rate_limit", 429),
    ("too_many_requests", 429),
    ("resource_exhausted", 429),
    ("quota", 429),
    ("authentication", 401),
    ("permission", 403),
    ("not_found", 404),
    ("too_large", 413),
    ("timeout", 504),
    ("invalid_request", 400),
    ("invalid_argument", 400),
    ("bad_request", 400),
    ("context_length", 400),
)


class Fault(Struct, frozen=True):
    """What an error body says, as far as it can be told."""

    message: str | None = None
    code: str | None = None
    type: str | None = None
    param: str | None = None
    status: int | None = None
    """A numeric status inside the body (OpenRouter, Gemini, Azure)."""


class _Details(Struct):
    details: dict[str, Any]


class _Detailed(Struct):
    error: _Details


def provider_error(
    status: int,
    headers: Mapping[str, str],
    *,
    message: str | None,
    code: str | None = None,
    type: str | None = None,
    param: str | None = None,
) -> ProviderError:
    """The error for a provider's reply with `status`. `headers` are looked up without regard to case."""
    if status in _CLIENTS_OWN or status == 429:
        return _stated(status, headers, message, code, type, param)
    if status in _AUTH:
        return ProviderError(
            "The provider did not accept the gateway's credentials.", code="provider_auth", provider_status=status
        )
    if status in _OVERLOADED:
        return ProviderError(
            "The provider is overloaded.",
            status=503,
            code="provider_overloaded",
            retry_after=retry_after(headers),
            provider_status=status,
            retryable=True,
        )
    if status >= 500:
        return ProviderError(
            "The provider failed.",
            status=504 if status == 504 else 502,
            code="provider_timeout" if status == 504 else "provider_error",
            retry_after=retry_after(headers),
            provider_status=status,
            retryable=True,
        )
    if 300 <= status < 400:
        return ReplyError("The provider answered with a redirect.", provider_status=status, retryable=False)
    return ReplyError("The provider answered with an unexpected status.", provider_status=status)


def fault_error(fault: Fault, headers: Mapping[str, str] | None = None) -> ProviderError:
    """The error for a failure reported inside a 200: by the status it states, else by its words, else a 500."""
    status = fault.status or _status_by_words(fault)
    return provider_error(
        status, headers or {}, message=fault.message, code=fault.code, type=fault.type, param=fault.param
    )


def error_object(body: bytes) -> Fault:
    """Reads the error bodies in use: OpenAI's and its kin, Azure, OpenRouter, Gemini (also in a list), Mistral, xAI.

    Anything else, HTML from a proxy included, says nothing.
    """
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Fault()
    return error_value(decoded)


def error_value(decoded: Any) -> Fault:
    """The same for a body that is decoded already, or for the value of an `error` key."""
    if isinstance(decoded, list) and len(decoded) == 1:
        decoded = decoded[0]
    if isinstance(decoded, str):
        return Fault(message=decoded)
    if not isinstance(decoded, dict):
        return Fault()
    inner = decoded.get("error")
    if isinstance(inner, dict):
        return _fault(inner)
    if isinstance(inner, str) and inner:
        return _fault({"message": inner, **{key: value for key, value in decoded.items() if key != "message"}})
    return _fault(decoded)


def error_details(body: bytes) -> dict[str, Any]:
    """What Anthropic says of an error for programs: `error_code`, and words, numbers and lists of them that go with it.

    Bounded, and cleaned as messages are.
    """
    try:
        decoded = msgspec.json.decode(body, type=_Detailed)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    told = {clean(name, WORD_LIMIT): _plain(value) for name, value in list(decoded.error.details.items())[:_MOST]}
    return {name: value for name, value in told.items() if value is not None}


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds to wait, from `retry-after-ms`, else `retry-after` in seconds or as an HTTP date (RFC 9110, 10.2.3)."""
    found = {name.lower(): value for name, value in headers.items() if name.lower().startswith("retry-after")}
    milliseconds = _number(found.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = found.get("retry-after")
    seconds = _number(text)
    if seconds is not None or not text:
        return seconds
    try:
        at = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, at - (time.time() if now is None else now))


def clean(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Words of a provider made fit for a client: bounded, without control characters, keys masked."""
    # Cut first, so that hostile lengths cost nothing; a key cut in two is still masked by its head.
    return _KEY.sub("***", _CONTROL.sub(" ", text[:limit])).strip()[:limit]


def _stated(
    status: int,
    headers: Mapping[str, str],
    message: str | None,
    code: str | None,
    type: str | None,
    param: str | None,
) -> ProviderError:
    """In the provider's own words. A rate limit, and a conflict in time, may be tried again."""
    limited = status == 429
    return ProviderError(
        clean(message or "") or ("The provider's rate limit is reached." if limited else "The provider refused."),
        status=status,
        code=clean(code or "", WORD_LIMIT) or ("rate_limit_exceeded" if limited else "provider_refused"),
        type=clean(type or "", WORD_LIMIT) or ("rate_limit_error" if limited else "invalid_request_error"),
        param=clean(param or "", WORD_LIMIT) or None,
        retry_after=retry_after(headers) if status in _AGAIN else None,
        provider_status=status,
        retryable=status == 408 or (limited and code not in _NEVER_AGAIN and type not in _NEVER_AGAIN),
    )


def _status_by_words(fault: Fault) -> int:
    words = f"{fault.code or ''} {fault.type or ''}".lower()
    return next((status for word, status in _STATUS_WORDS if word in words), 500)


def _fault(inner: dict[str, Any]) -> Fault:
    message = inner.get("message")
    if not isinstance(message, str):
        message = _detail(inner.get("detail", message))
    code = inner.get("code")
    return Fault(
        message=message,
        code=_word(code),
        type=_word(inner.get("type")) or _word(inner.get("status")),
        param=_word(inner.get("param")),
        status=_status(code) or _status(inner.get("status")) or _status(inner.get("status_code")),
    )


def _plain(value: Any) -> Any:
    """A word, a number, or a list of such; `None` for anything deeper."""
    if isinstance(value, str):
        return clean(value, WORD_LIMIT)
    if isinstance(value, list):
        return [_plain(each) for each in value[:_MOST] if isinstance(each, (str, bool, int, float))]
    return value if isinstance(value, (bool, int, float)) else None


def _detail(detail: Any) -> str | None:
    """FastAPI's and Mistral's `detail`: a text, or a list of complaints."""
    if isinstance(detail, str):
        return detail
    if isinstance(detail, dict):
        return _detail(detail.get("msg", detail.get("message")))
    if isinstance(detail, list):
        return "; ".join(filter(None, map(_detail, detail[:10]))) or None
    return None


def _word(value: Any) -> str | None:
    """A code or type in words; a number is a status and says nothing more."""
    return value if isinstance(value, str) and value and not value.isdigit() else None


def _status(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600 else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < 10**9 else None
