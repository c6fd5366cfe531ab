"""Intake: a request's head and body, read within bounds, before anything is made of them."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from aiohttp import web

from sidegate.errors import BadRequest, Refusal
from sidegate.settings import Server

BAD_FRAMING = "invalid_framing"
"""The code of a request after which nothing on its connection can be trusted."""


def check_head(request: web.Request) -> None:
    """Refuse what aiohttp lets through: two credentials, another HTTP version, another host in the request line."""
    headers = request.headers
    if "Authorization" in headers and len(headers.getall("Authorization")) > 1:
        raise BadRequest("The request has more than one Authorization header.", code="ambiguous_credentials")
    if request.version not in ((1, 1), (1, 0)):
        raise Refusal(505, "http_version_not_supported", "HTTP/1.1 is spoken here.")
    target = request._message.path
    if not target.startswith("/") and urlsplit(target).netloc.lower() != request.headers.get("Host", "").lower():
        raise BadRequest("The request line names another host than the Host header.", code="ambiguous_host")


def check_framing(request: web.Request) -> None:
    """Refuse a coding but `chunked`, which aiohttp would pass over, and any in HTTP/1.0 (RFC 9112 section 6.1)."""
    if "Transfer-Encoding" not in request.headers:
        return
    codings = request.headers.getall("Transfer-Encoding")
    if request.version < (1, 1) or [coding.strip().lower() for coding in codings] != ["chunked"]:
        raise BadRequest("The body's framing is not understood.", code=BAD_FRAMING)


def check_target(request: web.Request) -> None:
    """Refuse a NUL in the request target: nothing here is named with one, and PostgreSQL takes no text with it."""
    if "%00" in request.raw_path:
        raise BadRequest("The URL has a NUL character in it.")


async def read_json(request: web.Request, bounds: Server) -> bytes:
    """The body of a JSON request. 415 for another type or an encoding, 413 beyond the bound, 408 where it is slow."""
    headers = request.headers
    if "Content-Encoding" in headers:
        _check_encodings(headers.getall("Content-Encoding"))
    if headers.get("Content-Type") != "application/json":
        _check_type(request.content_type)
    content = request.content
    if content.is_eof() and content.total_bytes <= bounds.max_body_bytes and content.exception() is None:
        # All of it came with the head, as most bodies do: there is nothing to wait for.
        return content.read_nowait()
    length = request.content_length
    if length is not None and length > bounds.max_body_bytes:
        raise _too_large(bounds)
    try:
        async with asyncio.timeout(bounds.body_timeout):
            return await _read(request, bounds)
    except TimeoutError as error:
        raise Refusal(408, "request_timeout", "The body did not arrive in time.") from error
    except web.RequestPayloadError as error:
        raise BadRequest("The body is not framed as its headers say.", code=BAD_FRAMING) from error


def _check_encodings(codings: list[str]) -> None:
    if any(coding.strip().lower() not in ("", "identity") for coding in codings):
        raise Refusal(415, "unsupported_encoding", "Send the body without Content-Encoding.")


def _check_type(kind: str) -> None:
    if kind != "application/json" and not kind.endswith("+json"):
        raise Refusal(415, "unsupported_media_type", "Send the body as application/json.")


async def _read(request: web.Request, bounds: Server) -> bytes:
    content = request.content
    parts: list[bytes] = []
    size = 0
    while piece := await content.readany():
        size += len(piece)
        if size > bounds.max_body_bytes:
            raise _too_large(bounds)
        parts.append(piece)
    return b"".join(parts)


def _too_large(bounds: Server) -> Refusal:
    return Refusal(413, "request_too_large", f"The body is larger than {bounds.max_body_bytes} bytes.")
