"""The context of a trace: W3C Trace Context (level 1) in and out, ids, and the choice of which traces are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random
from typing import NamedTuple

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_STATE_MEMBER = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{1,256}", re.ASCII)
_MOST_MEMBERS = 32
_LONGEST_STATE = 2048


class Context(NamedTuple):
    """Where in which trace something stands."""

    trace: int
    span: int
    sampled: bool
    state: str = ""
    """The `tracestate` that came with it, to be passed on as it is."""

    @property
    def header(self) -> str:
        """As `traceparent`."""
        return f"00-{self.trace:032x}-{self.span:016x}-{self.sampled:02x}"

    @property
    def headers(self) -> dict[str, str]:
        """What is sent to whoever is asked next."""
        found = {"traceparent": self.header}
        if self.state:
            found["tracestate"] = self.state
        return found


def parent_of(headers: Mapping[str, str]) -> Context | None:
    """The context a client sent; `None` where there is none, or none that is valid: then a trace begins here."""
    text = headers.get("traceparent")
    if text is None or len(text) > 512 or _several(headers, "traceparent"):
        return None
    found = _PARENT.fullmatch(text.strip())
    # A later version may have more behind the flags; this one, 00, may not. `ff` is none.
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    trace, span = int(found[2], 16), int(found[3], 16)
    if not trace or not span:
        return None
    return Context(trace, span, bool(int(found[4], 16) & 1), _state(headers))


def _state(headers: Mapping[str, str]) -> str:
    """The `tracestate`, its lines joined; nothing of it where one member is wrong, as the Recommendation asks."""
    every = getattr(headers, "getall", None)
    lines = [headers.get("tracestate", "")] if every is None else every("tracestate", [])
    members = [member for line in lines for part in line.split(",") if (member := part.strip(" \t"))]
    state = ",".join(members)
    names = {member.partition("=")[0] for member in members}
    if len(members) > _MOST_MEMBERS or len(names) < len(members) or len(state) > _LONGEST_STATE:
        return ""
    return state if all(_STATE_MEMBER.fullmatch(member) for member in members) else ""


def _several(headers: Mapping[str, str], name: str) -> bool:
    every = getattr(headers, "getall", None)
    return every is not None and len(every(name)) > 1


class Contexts:
    """Makes contexts: of a client's trace, or of a new one, of which a share is kept."""

    def __init__(self, share: float, random: Random | None = None) -> None:
        self._random = random or Random()  # an id need be unique, not secret
        # The lower eight bytes are the random ones in every version; OpenTelemetry's samplers go by the same.
        self._bound = round(share * 2**64)

    def begin(self, parent: Context | None) -> Context:
        """A span inside `parent`, kept if that is; or the first of a trace."""
        if parent is not None:
            return parent._replace(span=self.span())
        trace = self._random.getrandbits(128) or 1
        return Context(trace, self.span(), (trace & (2**64 - 1)) < self._bound)

    def span(self) -> int:
        return self._random.getrandbits(64) or 1
