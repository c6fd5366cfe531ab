"""What the URL of a request asks for, where it is asked for reports and pages of them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from aiohttp import web
from msgspec import Raw

_OFFSET = re.compile(r"(:[0-9]{2}(?:\.[0-9]+)?) ([0-9]{2}:?[0-9]{2})$")


def parameters(request: web.Request) -> dict[str, list[str]]:
    """What the URL asks for, each name with all its values, in order."""
    found: dict[str, list[str]] = {}
    for name, value in request.query.items():
        # In a query `+` is a space, but who writes 10:00+01:00 by hand means what stands there.
        text = _OFFSET.sub(r"\1+\2", value) if name in ("since", "until") else value
        found.setdefault(name, []).append(text)
    return found


def fields(request: web.Request) -> Mapping[str, Raw]:
    """The same as the fields of a call."""
    return {name: Raw(msgspec.json.encode(values)) for name, values in parameters(request).items()}
