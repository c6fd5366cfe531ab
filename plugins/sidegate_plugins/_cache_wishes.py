"""What a client asks of the cache, by the request directives of `Cache-Control` (RFC 9111 section 5.2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Raw

HEADER = "cache-control"


class Wishes(NamedTuple):
    """Without a header, nothing in particular."""

    store: bool = True
    """False for `no-store`: the call passes the cache by."""
    reuse: bool = True
    """False for `no-cache`: the provider is asked, and what it says is kept."""
    only_kept: bool = False
    """`only-if-cached`: 504 where nothing is kept."""
    max_age: float | None = None
    min_fresh: float = 0

    def suit(self, age: float, left: float) -> bool:
        """Whether a reply of this age, with so many seconds left, may be told."""
        return self.reuse and (self.max_age is None or age <= self.max_age) and left >= self.min_fresh


def wishes(headers: Mapping[str, str], fields: Mapping[str, bytes | Raw]) -> Wishes:
    """What is not understood is passed over, as RFC 9111 says; a time that is none means: nothing is fresh enough."""
    again = "trigger" in fields and bytes(fields["trigger"]) == _AGAIN
    if HEADER not in headers:
        return _ANEW if again else _NONE
    getall = getattr(headers, "getall", None)
    lines = [headers[HEADER]] if getall is None else getall(HEADER)
    said = {}
    for directive in ",".join(map(str, lines)).split(","):
        name, _, value = directive.partition("=")
        said[name.strip().lower()] = value.strip().strip('"')
    return Wishes(
        store="no-store" not in said,
        reuse="no-cache" not in said and not again,
        only_kept="only-if-cached" in said,
        max_age=_seconds(said["max-age"], 0) if "max-age" in said else None,
        min_fresh=_seconds(said["min-fresh"], _FOR_EVER) if "min-fresh" in said else 0,
    )


_NONE = Wishes()
_ANEW = Wishes(reuse=False)
_AGAIN = b'"regenerate-message"'
"""What the AI SDK's `useChat` sends for its `regenerate`: the answer that is there is not wanted."""
_FOR_EVER = 2.0**31


def _seconds(text: str, otherwise: float) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 10 else otherwise
