"""Numbers and texts that fit the keywords of a JSON Schema."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import chain, count, islice
from typing import Any, overload

from sidegate.upstream.demo_pattern import text_for

_LONGEST = 1000
_TRIED = 64

_FORMATS = {
    "date-time": "2025-01-31T12:00:00Z",
    "date": "2025-01-31",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "demo@example.com",
    "idn-email": "demo@example.com",
    "hostname": "example.com",
    "idn-hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uri-reference": "/demo",
    "iri": "https://example.com/",
    "iri-reference": "/demo",
    "uri-template": "https://example.com/{id}",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "json-pointer": "/demo",
    "relative-json-pointer": "0",
    "regex": ".*",
}

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def types(schema: Mapping[str, Any]) -> list[str]:
    """The types a schema allows, as a list; empty for any."""
    asked = schema.get("type")
    listed = asked[: len(_TYPES) + 1] if isinstance(asked, list) else [asked]
    return [kind for kind in listed if isinstance(kind, str)]


@overload
def as_bound(value: object) -> float | None: ...
@overload
def as_bound(value: object, otherwise: float) -> float: ...
def as_bound(value: object, otherwise: float | None = None) -> float | None:
    """A keyword's number; integers too large for a float, and what is no number, do not bound."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 2**1000:
        return otherwise
    return value


def fits(value: object, schema: Mapping[str, Any]) -> bool:
    """Whether a value that the schema names keeps what else the schema says, at its top."""
    asked = types(schema)
    if asked and not any(_is(value, kind) for kind in asked):
        return False
    if isinstance(value, str):
        return (as_bound(schema.get("minLength")) or 0) <= len(value) <= as_bound(schema.get("maxLength"), math.inf)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _within(value, schema)
    return True


def _is(value: object, kind: str) -> bool:
    if kind == "integer":
        return not isinstance(value, bool) and (isinstance(value, int) or (type(value) is float and value.is_integer()))
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES.get(kind, ()))


def number(schema: Mapping[str, Any], integer: bool, turn: int = 0) -> int | float:
    """A number within the bounds; the `turn`-th of them where they must differ."""
    candidates = chain(_likely(schema, integer), _counted(schema, integer))
    fitting: dict[int | float, None] = {}
    for candidate in islice(candidates, _TRIED + turn):
        if _within(candidate, schema):
            fitting[candidate] = None
            if len(fitting) > turn:
                return candidate
    return next(reversed(fitting), 0)


def _likely(schema: Mapping[str, Any], integer: bool) -> Iterator[int | float]:
    yield 1 if integer else 1.5
    low, high = _bounds(schema)
    if integer:
        return
    if low is not None and high is not None:
        yield low / 2 + high / 2
    if low is not None:
        yield from (low, math.nextafter(low, math.inf))
    if high is not None:
        yield from (high, math.nextafter(high, -math.inf))


def _counted(schema: Mapping[str, Any], integer: bool) -> Iterator[int | float]:
    """Multiples of the step, upward from the lower bound, else downward from the upper one."""
    low, high = _bounds(schema)
    step = as_bound(schema.get("multipleOf"), 1)
    step = step if step > 0 else 1
    if integer and step != int(step):
        step = 1
    start = low if low is not None else high if high is not None and high < step else 0
    down = low is None and start is high
    # Floor division, since it is exact for integers of any size.
    first = start // step if down else -(-start // step)
    if not math.isfinite(first):
        return
    for index in count(int(first), -1 if down else 1):
        value = index * step
        if not math.isfinite(value):
            return
        yield int(value) if value == int(value) else value


def _bounds(schema: Mapping[str, Any]) -> tuple[float | None, float | None]:
    lows = [as_bound(schema.get(key)) for key in ("minimum", "exclusiveMinimum")]
    highs = [as_bound(schema.get(key)) for key in ("maximum", "exclusiveMaximum")]
    low = max((bound for bound in lows if bound is not None), default=None)
    return low, min((bound for bound in highs if bound is not None), default=None)


def _within(value: int | float, schema: Mapping[str, Any]) -> bool:
    low, high = _bounds(schema)
    if (low is not None and value < low) or (high is not None and value > high):
        return False
    for key, bound in (("exclusiveMinimum", low), ("exclusiveMaximum", high)):
        # Draft 4 says `true` beside the bound instead of a number.
        if (schema.get(key) is True or as_bound(schema.get(key)) == value) and value == bound:
            return False
    step = as_bound(schema.get("multipleOf"))
    return step is None or step <= 0 or _is_multiple(value, step)


def _is_multiple(value: int | float, step: float) -> bool:
    """As validators judge it: in floats where the step is one."""
    if isinstance(step, int) and isinstance(value, int):
        return value % step == 0
    if abs(value) > 2**1000:
        return False
    quotient = value / step
    return math.isfinite(quotient) and quotient == int(quotient)


def text(schema: Mapping[str, Any], hint: str, turn: int = 0) -> str:
    """A text: by the pattern, else by the format, else plain words, as long as asked."""
    shortest = int(min(as_bound(schema.get("minLength")) or 0, _LONGEST))
    longest = int(max(0, min(as_bound(schema.get("maxLength"), _LONGEST), _LONGEST)))
    pattern = schema.get("pattern")
    made = text_for(pattern, shortest + turn) if isinstance(pattern, str) else None
    if made is None:
        asked = schema.get("format")
        made = _FORMATS.get(asked) if isinstance(asked, str) else None
    if made is not None and shortest <= len(made) <= longest:
        return made
    words = f"{turn} {_words(hint)}" if turn else _words(hint)
    return (words + " demo" * (shortest // 5 + 1))[: max(shortest, min(longest, len(words)))]


def _words(hint: str) -> str:
    return f"demo {hint[:40].replace('_', ' ')}" if hint else "demo"
