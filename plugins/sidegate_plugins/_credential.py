"""What a request says of who sent it, as far as every plugin that names callers reads it alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

from msgspec import Meta

from sidegate.contract import Call
from sidegate.errors import BadRequest

EndUserHeader = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9-]+$", description="Where a caller that may do so names its end user.")
]
"""The name of a request header; see `named_end_user`."""

_LONGEST_USER = 256


def header_values(headers: Mapping[str, str], name: str) -> Iterable[str]:
    """Every value of a header: it may stand in a request more than once."""
    if name not in headers:
        return ()
    getall: Callable[[str], list[str]] | None = getattr(headers, "getall", None)
    return [headers[name]] if getall is None else getall(name)


def named_end_user(call: Call, header: str) -> str | None:
    """Whom a caller that is believed names as its end user: by `header`, else in the body. Raises `BadRequest`."""
    name = call.headers.get(header)
    if not name and call.operation in ("chat", "text_completion", "embeddings"):
        name = call.request.user
    if not name:
        return None
    if len(name) > _LONGEST_USER or not name.isprintable():
        raise BadRequest("The end user's name must be at most 256 printable characters.", code="invalid_end_user")
    return name
