"""A call on its way, for people: what each plugin did, what each attempt came to, and where the time went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sidegate.commands.usage_table import shown

_DID = {
    "passed": "passed it on",
    "answered": "answered",
    "refused": "refused",
    "failed": "failed",
    "stepped_over": "failed, stepped over",
    "stopped": "stopped while at work",
    "not_reached": "not reached",
}
_ASKED = {"tap": "look", "edit": "edit", "hold": "hold", "end": "add at the end"}


def lines(call: Mapping[str, Any]) -> Iterator[str]:
    """What the admin listener said of a call, line by line."""
    yield from _head(call)
    if call["state"] == "in_flight":
        yield ""
        yield "It runs. What each plugin did is told when it is over."
        return
    trail = call.get("trail")
    if trail is not None:
        yield ""
        yield from _plugins(trail)
    yield ""
    yield from _attempts(call["attempts"])
    yield ""
    if trail is None:
        yield "What each plugin did is not remembered: it is of the last calls (admin.trails), until the gateway ends."
        return
    yield (
        f"attempts {time(trail['attempt_seconds'])}, plugins {time(_own(trail))}, "
        f"the rest (the gateway, pauses, a slow reader) {time(trail['other_seconds'])}"
    )


def _head(call: Mapping[str, Any]) -> Iterator[str]:
    model = call.get("model_asked", call.get("model")) or "-"
    yield shown(f"call {call['id']}: {call['operation']} of {model}, {call['delivery']}")
    took = f"{call['state'].replace('_', ' ')} for" if call["state"] == "in_flight" else f"{_ended(call)} after"
    first = "" if call["first_token"] is None else f", first token after {time(call['first_token'])}"
    yield f"{took} {time(call['duration'])}{first}"
    who = [f"caller {call['caller']}", *(f"{name} {call[key]}" for key, name in _WHO if call.get(key))]
    yield shown(", ".join([*who, f"route {call['route']}"]))
    tokens = [f"{_count(call[f'{kind}_tokens'])} {kind}" for kind in ("input", "output")]
    yield f"tokens {', '.join(tokens)}{' (estimated in part)' if call['estimated'] else ''}, cost {_usd(call)}"


_WHO = (("key_id", "key"), ("team", "team"), ("end_user", "end user"))


def _ended(call: Mapping[str, Any]) -> str:
    error = "" if call.get("error") is None else f", {call['error']}"
    by = "" if call.get("plugin") is None else f" by {call['plugin']}"
    return shown(f"{call['ending'].replace('_', ' ')} (status {call['status']}{error}{by})")


def _plugins(trail: Mapping[str, Any]) -> Iterator[str]:
    total = trail["total_seconds"] or 1.0
    rows = [("plugin", "did", "own time", "share", "asked of the reply")]
    for plugin in trail["plugins"]:
        own = plugin["seconds"]
        asked = ", ".join(_ASKED.get(stage, stage) for stage in plugin["stages"])
        share = "-" if own is None else f"{own / total:.1%}"
        did = _DID.get(plugin["outcome"], plugin["outcome"])
        rows.append((shown(plugin["name"]), did, "-" if own is None else time(own), share, asked))
    if len(rows) == 1:
        yield f"pipeline {trail['pipeline']} has no plugins"
        return
    yield from _table(rows, right=(2, 3))


def _attempts(attempts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not attempts:
        yield "No provider was asked."
        return
    rows = [("attempt", "provider", "model", "ended", "first token", "took", "cost")]
    for attempt in attempts:
        ended = attempt["ending"] if attempt["error"] is None else f"{attempt['ending']}: {attempt['error']}"
        first = "-" if attempt["first_token"] is None else time(attempt["first_token"])
        names = (shown(attempt["provider"]), shown(attempt["target"]), shown(ended))
        rows.append((str(attempt["number"]), *names, first, time(attempt["duration"]), _usd(attempt)))
    yield from _table(rows, right=(4, 5, 6))


def _table(rows: Sequence[Sequence[str]], right: Sequence[int]) -> Iterator[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = [
            f"{cell:>{width}}" if index in right else f"{cell:<{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
        if not number:
            yield "  ".join("-" * width for width in widths)


# --- figures ----------------------------------------------------------------------------------------------------------


def time(seconds: float) -> str:
    """With three digits and the unit that fits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds / size < 100 else f"{seconds / size:,.0f} {unit}"
    return f"{seconds / 1e-6:.0f} us"


def _own(trail: Mapping[str, Any]) -> float:
    return sum(plugin["seconds"] or 0.0 for plugin in trail["plugins"])


def _count(tokens: int | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,}"


def _usd(row: Mapping[str, Any]) -> str:
    nano = row["cost_nano_usd"]
    return "unknown" if nano is None else f"{nano // 10**9}.{nano % 10**9:09d} USD"
