"""Header fields of replies: which of those that plugins ask for may stand there (RFC 9110, section 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_FRAMING = frozenset({"content-length", "trailer", "transfer-encoding"})


def sound(fields: Mapping[str, str]) -> dict[str, str]:
    """Those that may. What has no place in a header is left out, as is what says how long the reply is: aiohttp would
    answer nothing at all, or a client would take the rest for the next reply."""
    return {
        name: value
        for name, value in fields.items()
        if type(value) is str and value.isascii() and value.isprintable() and _may_stand(name)
    }


@lru_cache(maxsize=512)
def _may_stand(name: object) -> bool:
    """Whether it is a name, and none that is the server's own to say."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and name.lower() not in _FRAMING
