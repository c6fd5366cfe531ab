"""Answers of the admin listener: JSON that nobody keeps, and parameters that are known or refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from sidegate.errors import BadRequest
from sidegate.http.intake import check_head
from sidegate.http.parameters import parameters
from sidegate.http.server import SERVER

T = TypeVar("T")

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS: Final[Mapping[str, str]] = {
    "Server": SERVER,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}

MOST_ROWS = 1000
CALL: Final = "{id:[0-9a-f]{32}}"
"""A call's or a job's id in a path."""

_ENCODER = msgspec.json.Encoder()


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """Some rows, and where the next page begins."""

    object: Literal["list"] = "list"
    data: Sequence[T]
    next: str | None = None
    """`after` of the next page; null where this is the last."""


def said(answer: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """The answer as JSON."""
    body = answer if isinstance(answer, bytes) else _ENCODER.encode(answer)
    return web.Response(
        status=status, body=body, content_type="application/json", headers={**HEADERS, **(headers or {})}
    )


def no_parameters(request: web.Request) -> None:
    """Refuse any: a typo must not be a silent default."""
    check_head(request)
    if request.query_string:
        raise BadRequest("No parameters belong into the URL here.")


def asked(request: web.Request, known: Sequence[str]) -> dict[str, str]:
    """The parameters of the URL, each once. Raises `BadRequest` for others."""
    check_head(request)
    found: dict[str, str] = {}
    for name, values in parameters(request).items():
        if name not in known:
            raise BadRequest(f"There is no parameter of this name; there are {', '.join(known)}.", param=name[:64])
        if len(values) > 1:
            raise BadRequest(f"`{name}` stands there {len(values)} times.", param=name)
        found[name] = values[0]
    return found


def rows_asked(found: Mapping[str, str], default: int = 50, most: int = MOST_ROWS) -> int:
    """How many rows: `limit`."""
    text = found.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= most):
        raise BadRequest(f"`limit` is a number from 1 to {most}.", param="limit")
    return int(text)
