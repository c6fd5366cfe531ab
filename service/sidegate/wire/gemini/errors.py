"""Gemini's errors: `google.rpc.Status` as JSON, read and written.

Sources: https://ai.google.dev/gemini-api/docs/troubleshooting, https://google.aip.dev/193 (details),
https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto (names and their HTTP statuses).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from sidegate.errors import ProviderError, SidegateError
from sidegate.wire import faults, sse
from sidegate.wire.body import UNREADABLE

_TYPE = "type.googleapis.com/google.rpc."
_DOMAIN = "sidegate"

_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_STATUSES = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}
_KEY_REASONS = frozenset(("API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED"))
_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_NOT_IN_REASON = re.compile(r"[^A-Z0-9]+")

_ENCODE = msgspec.json.Encoder().encode


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """A provider's error reply. A key that is not valid is told as a 400, though it is the gateway's and no mistake of
    the client's; when to come back stands in the details."""
    fault, details = _read(body)
    if status == 400 and _is_about_key(fault, details):
        status = 401
    wait = _retry_delay(details)
    if wait is not None and faults.retry_after(headers) is None:
        headers = {"retry-after-ms": str(math.ceil(wait * 1000))}
    return faults.provider_error(status, headers, message=fault.message, param=_violated(details))


def error_inside(data: bytes) -> ProviderError:
    """The error for an error object inside a 200."""
    fault, _ = _read(data)
    status = fault.status or _STATUSES.get(fault.type or "") or 500
    return read_error(status, {}, data)


def write_error(error: SidegateError, request_id: str) -> bytes:
    return _ENCODE({"error": _status(error, request_id)})


def write_error_event(error: SidegateError, request_id: str) -> bytes:
    return sse.frame(write_error(error, request_id))


def _status(error: SidegateError, request_id: str) -> dict[str, Any]:
    name = _NAMES.get(error.status) or ("INVALID_ARGUMENT" if error.status < 500 else "INTERNAL")
    reason = _NOT_IN_REASON.sub("_", error.code.upper()).strip("_") or "ERROR"
    info = {"@type": _TYPE + "ErrorInfo", "reason": reason, "domain": _DOMAIN, "metadata": {"requestId": request_id}}
    details: list[dict[str, Any]] = [info]
    if error.param is not None:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": _TYPE + "BadRequest", "fieldViolations": [violation]})
    if error.retry_after is not None:
        delay = f"{max(1, math.ceil(error.retry_after))}s"
        details.append({"@type": _TYPE + "RetryInfo", "retryDelay": delay})
    if error.details:
        details.append({"@type": "type.googleapis.com/google.protobuf.Struct", "value": error.details})
    return {"code": error.status, "message": error.message, "status": name, "details": details}


def _read(body: bytes) -> tuple[faults.Fault, list[dict[str, Any]]]:
    """What an error says, in an array of one too, as streams without SSE have it; and its details."""
    try:
        decoded = msgspec.json.decode(body)
    except UNREADABLE:
        return faults.Fault(), []
    if isinstance(decoded, list) and decoded:
        decoded = decoded[-1]
    error = decoded.get("error") if isinstance(decoded, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    found = [each for each in details if isinstance(each, dict)] if isinstance(details, list) else []
    return faults.error_value(decoded), found


def _is_about_key(fault: faults.Fault, details: list[dict[str, Any]]) -> bool:
    if any(each.get("reason") in _KEY_REASONS for each in details):
        return True
    return (fault.message or "").lower().startswith(("api key not valid", "api key expired"))


def _retry_delay(details: list[dict[str, Any]]) -> float | None:
    for each in details:
        delay = each.get("retryDelay")
        if isinstance(delay, str) and (found := _SECONDS.fullmatch(delay)):
            return float(found[1])
    return None


def _violated(details: list[dict[str, Any]]) -> str | None:
    for each in details:
        violations = each.get("fieldViolations")
        first = violations[0] if isinstance(violations, list) and violations else None
        if isinstance(first, dict) and isinstance(first.get("field"), str):
            return str(first["field"])
    return None
