"""Replies: heads and bodies of what the gateway answers, with headers that can do no harm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

from aiohttp import web

from sidegate.contract.call import Call
from sidegate.errors import SidegateError
from sidegate.http.intake import BAD_FRAMING
from sidegate.http.server import SERVER
from sidegate.wire import limit_headers
from sidegate.wire.header_fields import sound

LONGEST_WAIT = 120.0
"""Seconds that an SDK may wait by itself. OpenAI's waits no longer; Anthropic's would sleep for days, so it is told not
to try again, and its caller when to."""

SHOULD_RETRY = "x-should-retry"


class Voice(Protocol):
    """In whose words a client is answered: a dialect, or Sidegate's own."""

    @property
    def name(self) -> str: ...
    def write_error(self, error: SidegateError, request_id: str) -> bytes: ...
    def write_error_event(self, error: SidegateError, request_id: str) -> bytes: ...


def reply_headers(voice: Voice, call_id: str, extra: Mapping[str, str]) -> dict[str, str]:
    """The call's id, in the vendor's header too, and what plugins asked for, as far as it may stand in a header."""
    headers = {"Server": SERVER, "x-request-id": call_id}
    if voice.name.startswith("anthropic."):
        headers["request-id"] = call_id
    return headers | sound(extra)


def call_headers(voice: Voice, call: Call) -> dict[str, str]:
    """Of the reply to a call, as far as it has come: also what the provider that answers said of its limits."""
    passed = call.attempts[-1].headers if call.attempts else None
    return reply_headers(voice, call.id, _spoken(voice, call, {**(passed or {}), **call.reply_headers}))


def _spoken(voice: Voice, call: Call, extra: dict[str, str]) -> dict[str, str]:
    """The limits that plugins tell by OpenAI's names, by Anthropic's too where those are read."""
    if not voice.name.startswith("anthropic.") or not any(name.startswith(limit_headers.OPENAI) for name in extra):
        return extra
    # How long it is until a reset was said when the call began.
    return {**limit_headers.in_anthropics(extra, call.started_at), **extra}


def error_reply(voice: Voice, error: SidegateError, call: Call) -> web.Response:
    """An error while nothing has been sent: status, body in the client's dialect, `Retry-After` where it helps."""
    headers = reply_headers(voice, call.id, _spoken(voice, call, {**call.reply_headers, **error.headers}))
    if error.retry_after is not None:
        headers.update(when(error.retry_after))
        if error.retry_after > LONGEST_WAIT:
            headers.setdefault(SHOULD_RETRY, "false")
    response = error_response(voice, error, call.id, headers)
    if error.status in (408, 413) or error.code == BAD_FRAMING:
        # The rest of the body is still on its way; reading it would do what the refusal is to avoid.
        response.force_close()
    return response


def buffered_reply(voice: Voice, body: bytes | None, call: Call) -> web.Response:
    """A whole reply."""
    return web.Response(
        body=body or b"{}",
        content_type="application/json",
        headers=call_headers(voice, call),
    )


def when(seconds: float) -> dict[str, str]:
    """In whole seconds, as HTTP has it (RFC 9110 section 10.2.3), and exactly, as OpenAI's and Anthropic's SDKs read it
    first."""
    return {"Retry-After": str(max(1, math.ceil(seconds))), "retry-after-ms": str(max(1, math.ceil(seconds * 1000)))}


def error_response(voice: Voice, error: SidegateError, request_id: str, headers: Mapping[str, str]) -> web.Response:
    """Its status, and its body with the type that the client's dialect has for it."""
    body = voice.write_error(error, request_id)
    if voice.name.startswith("ai_sdk."):
        return web.Response(status=error.status, body=body, content_type="text/plain", charset="utf-8", headers=headers)
    kind = "application/problem+json" if voice.name == "sidegate" else "application/json"
    return web.Response(status=error.status, body=body, content_type=kind, headers=headers)
