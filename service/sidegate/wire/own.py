"""Sidegate's own routes: JSON, and problem details (RFC 9457) for errors."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from sidegate.errors import SidegateError
from sidegate.wire import sse

CONTENT_TYPE = "application/problem+json"


class Own:
    """The voice of routes that belong to no vendor."""

    name = "sidegate"

    def write_error(self, error: SidegateError, request_id: str) -> bytes:
        return problem(error.status, error.message, code=error.code, request_id=request_id)

    def write_error_event(self, error: SidegateError, request_id: str) -> bytes:
        return sse.frame(self.write_error(error, request_id), "error")


def problem(status: int, detail: str, *, code: str | None = None, request_id: str | None = None) -> bytes:
    """A problem details object: `title` is the status's own, `code` the gateway's word for it."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    members: dict[str, object] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if code is not None:
        members["code"] = code
    if request_id is not None:
        members["request_id"] = request_id
    return msgspec.json.encode(members)
