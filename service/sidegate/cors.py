"""Cors: which pages of other origins may call the gateway from a browser (https://fetch.spec.whatwg.org/#http-cors)."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta, Struct

HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")]

_SHAPE = re.compile(r"([a-z][a-z0-9+.-]*)://((?:\*\.)?)([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DEFAULT_PORTS = {("http", ":80"), ("https", ":443")}


class Cors(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Pages of which origins may call, and what they may send and read."""

    origins: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="`https://app.example.com`, `https://*.example.com` for one level below, or `*` alone for all.",
        ),
    ]
    credentials: Annotated[
        bool, Meta(description="Whether pages may have client certificates and cookies sent. Keys in headers need not.")
    ] = False
    headers: Annotated[
        tuple[HeaderName, ...], Meta(description="Further request headers that pages may send, beside those of SDKs.")
    ] = ()
    expose: Annotated[
        tuple[HeaderName, ...], Meta(description="Further reply headers that pages may read, beside those of SDKs.")
    ] = ()
    max_age: Annotated[
        int, Meta(ge=0, le=86_400, description="Seconds for which a browser remembers what it was allowed.")
    ] = 600

    def __post_init__(self) -> None:
        check_origins(self.origins)
        if self.credentials and "*" in self.origins:
            raise ValueError("`credentials` with `*` would let every page on the web act in its reader's name")


class Origins:
    """Looks origins up. One that is `null`, as of sandboxed pages and files, is everybody's, and only `*` allows it."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self.all = origins == ("*",)
        self._exact = frozenset(origin for origin in origins if "*" not in origin)
        patterns = [re.escape(origin).replace(r"\*", _LABEL) for origin in origins if "*." in origin]
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def allow(self, origin: str) -> bool:
        """Browsers write an origin in one way only, so it is compared as it stands."""
        if self.all or origin in self._exact:
            return True
        return self._pattern is not None and self._pattern.fullmatch(origin) is not None


def check_origins(origins: tuple[str, ...]) -> None:
    """Raises `ValueError` for what no browser would send, and for `*` beside others."""
    if "*" not in origins:
        for origin in origins:
            _check(origin)
    elif len(origins) > 1:
        raise ValueError("`*` in `origins` stands alone")


def _check(origin: str) -> None:
    """Raises `ValueError` for what no browser would send, and for patterns that mean more than one house."""
    found = _SHAPE.fullmatch(origin)
    if found is None:
        raise ValueError(
            f"`{origin[:200]}` is no origin: scheme://host or scheme://host:port, in lower case, without a path"
        )
    scheme, star, host, port = found.groups()
    if (scheme, port) in _DEFAULT_PORTS:
        raise ValueError(f"`{origin}`: leave out {port}, as browsers do")
    if star and "." not in host.strip("."):
        raise ValueError(f"`{origin}` would allow every site below {host}")
