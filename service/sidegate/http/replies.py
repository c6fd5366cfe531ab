"""Replies: heads and bodies of what the gateway answers, with headers that can do no harm."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Protocol

from aiohttp import web

from sidegate.contract.call import Call
from sidegate.errors import SidegateError
from sidegate.http.intake import BAD_FRAMING
from sidegate.http.server import SERVER

_ILLEGAL = re.compile(r"[^\x20-\x7e]")


class Voice(Protocol):
    """In whose words a client is answered: a dialect, or Sidegate's own."""

    @property
    def name(self) -> str: ...
    def write_error(self, error: SidegateError, request_id: str) -> bytes: ...
    def write_error_event(self, error: SidegateError, request_id: str) -> bytes: ...


def reply_headers(voice: Voice, call_id: str, extra: Mapping[str, str]) -> dict[str, str]:
    """The call's id, in the vendor's header too, and what plugins asked for.

    A value with a character that has no place in a header is left out: aiohttp would answer nothing at all.
    """
    headers = {"Server": SERVER, "x-request-id": call_id}
    if voice.name.startswith("anthropic."):
        headers["request-id"] = call_id
    headers.update({name: value for name, value in extra.items() if not _ILLEGAL.search(value)})
    return headers


def error_reply(voice: Voice, error: SidegateError, call: Call) -> web.Response:
    """An error while nothing has been sent: status, body in the client's dialect, `Retry-After` where it helps."""
    headers = reply_headers(voice, call.id, {**call.reply_headers, **error.headers})
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    response = web.Response(
        status=error.status, body=voice.write_error(error, call.id), content_type=_error_type(voice), headers=headers
    )
    if error.status in (408, 413) or error.code == BAD_FRAMING:
        # The rest of the body is still on its way; reading it would do what the refusal is to avoid.
        response.force_close()
    return response


def buffered_reply(voice: Voice, body: bytes | None, call: Call) -> web.Response:
    """A whole reply."""
    return web.Response(
        body=body or b"{}",
        content_type="application/json",
        headers=reply_headers(voice, call.id, call.reply_headers),
    )


def _error_type(voice: Voice) -> str:
    return "application/problem+json" if voice.name == "sidegate" else "application/json"
