"""Destinations: where a request goes, and the bytes of its head. What could split or re-frame a request is not sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from yarl import URL

from sidegate.errors import ConnectError

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A field name, RFC 9110 section 5.6.2."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING = frozenset({"content-length", "transfer-encoding", "expect", "upgrade"})
"""What only the transport may say."""


class Origin(NamedTuple):
    """What a connection is to, and may be kept for."""

    secure: bool
    host: str
    port: int


class Destination(NamedTuple):
    """A URL, read once."""

    origin: Origin
    host: str
    """As `Host` says it."""
    path: str
    """With the query."""


def read_url(url: str) -> Destination:
    """Raises `ConnectError` where there is nothing to connect to by it."""
    try:
        read = URL(url)
        if read.scheme not in ("http", "https") or not read.raw_host or read.user or read.password or not read.port:
            raise ConnectError("The provider's address is none of HTTP.")
        origin = Origin(read.scheme == "https", read.raw_host, read.port)
        return Destination(origin, read.host_port_subcomponent or read.raw_host, read.raw_path_qs)
    except ValueError as error:
        raise ConnectError("The provider's address is none of HTTP.") from error


@lru_cache(maxsize=256)
def _line(name: str, value: str) -> tuple[str, bool]:
    """A header as it is sent, and whether it is `Host`. A provider is sent the same few again and again."""
    lower = name.lower()
    if _NAME.fullmatch(name) is None or _CONTROL.search(value) is not None or lower in _FRAMING:
        raise ConnectError("The request has a header that cannot be sent.")
    return f"{name}: {value}", lower == "host"


class Opening(NamedTuple):
    """A request that may be made again and again: where it goes, and its head but for the length of the body."""

    origin: Origin
    start: bytes
    bodiless: bool

    def head(self, length: int) -> bytes:
        """With a body of that many bytes."""
        return self.start if self.bodiless else b"%b%d\r\n\r\n" % (self.start, length)


def write_opening(method: str, to: Destination, headers: Mapping[str, str], *, bodiless: bool) -> Opening:
    """Raises `ConnectError` for a header that cannot be sent."""
    lines = [f"{method} {to.path} HTTP/1.1"]
    named = False
    for name, value in headers.items():
        line, is_host = _line(name, value)
        named = named or is_host
        lines.append(line)
    if not named:
        lines.insert(1, f"Host: {to.host}")
    lines.append("\r\n" if bodiless else "Content-Length: ")
    # A client's bytes that are no UTF-8 go on as they came.
    return Opening(to.origin, "\r\n".join(lines).encode("utf-8", "surrogateescape"), bodiless)
