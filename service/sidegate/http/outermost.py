"""What no endpoint answers: unknown paths, wrong methods, odd framing, and faults of the gateway. Always JSON."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web

from sidegate.errors import Refusal, SidegateError
from sidegate.http.intake import check_framing, check_target
from sidegate.http.replies import Voice, error_response, reply_headers
from sidegate.wire.own import Own
from sidegate.wire.registry import DIALECTS

_logger = logging.getLogger("sidegate.http")


@web.middleware
async def outermost(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """The middleware round everything."""
    try:
        check_framing(request)
        check_target(request)
        return await handler(request)
    except SidegateError as error:
        response = _plain(request, error)
        response.force_close()
        return response
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.method} is not allowed here."
        return _plain(request, Refusal(405, "method_not_allowed", message, headers={"Allow": allowed}))
    except web.HTTPNotFound:
        return _plain(request, Refusal(404, "not_found", "There is nothing at this path."))
    except web.HTTPException as error:
        return _plain(request, Refusal(error.status, "refused", error.reason))
    except Exception as error:
        if request.writer.output_size > 0:
            raise
        _logger.error("a request failed outside of any call: %s", type(error).__name__)
        return _plain(request, SidegateError("The gateway failed."))


def expectation(max_body_bytes: int) -> Callable[[web.Request], Awaitable[web.StreamResponse | None]]:
    """`Expect: 100-continue` is met where the body may come: one too large is refused before it is sent."""

    async def expect(request: web.Request) -> web.StreamResponse | None:
        if request.headers["Expect"].lower() != "100-continue":
            return _plain(request, Refusal(417, "expectation_failed", "Only 100-continue can be expected."))
        if request.version >= (1, 1) and (request.content_length or 0) <= max_body_bytes:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # The reply itself has not begun.
            request.writer.output_size = 0
        return None

    return expect


def _plain(request: web.Request, error: SidegateError) -> web.Response:
    voice = _voice(request.path)
    request_id = secrets.token_hex(16)
    return error_response(voice, error, request_id, reply_headers(voice, request_id, error.headers))


_OWN = ("/v1/calls", "/v1/usage", "/v1/jobs", "/v1/streams/", "/v1/chat/ws")
"""Where no vendor's words are spoken."""


def _voice(path: str) -> Voice:
    """The words of a path that nobody serves: those of the vendor whose path it most looks like."""
    if path.startswith("/admin/"):
        return Own()
    if "/v1beta" in path or "/v1alpha/" in path or ("/models/" in path and ":" in path):
        return DIALECTS["gemini.generate"]
    if "/v1/messages" in path:
        return DIALECTS["anthropic.messages"]
    if "/api/chat" in path or "/api/completion" in path:
        return DIALECTS["ai_sdk.ui_messages"]
    if any(own in path for own in _OWN) or "/v1/" not in path:
        return Own()
    return DIALECTS["openai.chat"]
