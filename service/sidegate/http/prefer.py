"""Prefer: what a client would rather have (RFC 7240), as far as jobs go, and how urgent it is (RFC 9218)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

USUAL = 3
"""The urgency of what says none."""

_WAIT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?")
_URGENCY = re.compile(r"(?:^|[,\s])u=([0-7])(?=$|[,;\s])")


class Prefer(Struct, frozen=True):
    """`Prefer: respond-async, wait=30`."""

    respond_async: bool = False
    wait: float | None = None
    """Seconds after which a 202 is better than more waiting; `None` where it is better at once."""

    @property
    def applied(self) -> str:
        """What of it is met by a 202."""
        return "respond-async" if self.wait is None else f"respond-async, wait={self.wait:g}"


def read_prefer(headers: Mapping[str, str]) -> Prefer:
    """What is not understood is passed over: preferences are no commands. The first of a name counts."""
    said: dict[str, str] = {}
    for line in _lines(headers, "Prefer"):
        for item in line.split(","):
            name, _, value = item.partition(";")[0].partition("=")
            said.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = said.get("wait", "")
    return Prefer("respond-async" in said, float(wait) if _WAIT.fullmatch(wait) else None)


def read_urgency(headers: Mapping[str, str]) -> int:
    """0 to 7 by `Priority: u=`; 0 is the most urgent."""
    found = _URGENCY.search(", ".join(_lines(headers, "Priority")))
    return USUAL if found is None else int(found[1])


def _lines(headers: Mapping[str, str], name: str) -> list[str]:
    getall = getattr(headers, "getall", None)
    if getall is not None:
        return [str(value) for value in getall(name, ())]
    return [headers[name]] if name in headers else []
