"""Function calls across the events of one reply. Gemini numbers no parts, so what a call is hangs on those before it.

Mostly a call comes whole. Where Vertex AI was asked to stream arguments, it comes as a name, then pieces that say a
value by its JSON path, then an end; here it is gathered, and told whole at its end.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from sidegate.wire.gemini.event import FunctionCall, PartialArg

FIRST_CALL = 3
"""The block of the first call; those before are of reasoning, text and signatures."""

_MOST_ITEMS = 10_000
_DEEPEST = 64
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,9})\]|\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]")

_encode = msgspec.json.Encoder().encode


class Turn(NamedTuple):
    """What one `functionCall` part is: the block of its call, and what it does to it."""

    block: int
    opens: bool
    arguments: str | None
    """JSON text, where the call is whole by it."""


class Calls:
    """The calls of one reply, in the order of its events."""

    __slots__ = ("_count", "_open", "choices")

    def __init__(self) -> None:
        self._count = 0
        self._open: dict[int, tuple[int, dict[str, Any]]] = {}
        self.choices: frozenset[int] = frozenset()
        """Those that have called."""

    def take(self, choice: int, call: FunctionCall) -> Turn | None:
        """The part that comes next; `None` for a piece of no call."""
        if isinstance(call.name, str) and call.name:
            return self._begin(choice, call)
        known = self._open.get(choice)
        if known is None:
            return None
        block, values = known
        _put_all(values, call.partial_args or [])
        if call.will_continue:
            return Turn(block, False, None)
        del self._open[choice]
        return Turn(block, False, _encode(values).decode())

    def _begin(self, choice: int, call: FunctionCall) -> Turn:
        block = FIRST_CALL + self._count
        self._count += 1
        self.choices |= {choice}
        if not call.will_continue and not call.partial_args:
            self._open.pop(choice, None)
            return Turn(block, True, arguments_text(call.args))
        values = _object(call.args)
        _put_all(values, call.partial_args or [])
        if not call.will_continue:
            return Turn(block, True, _encode(values).decode())
        self._open[choice] = block, values
        return Turn(block, True, None)


def arguments_text(args: Raw | bytes) -> str:
    """Arguments as JSON text: none are an empty object."""
    text = bytes(args)
    return text.decode() if text and text != b"null" else "{}"


def _object(args: Raw) -> dict[str, Any]:
    values = msgspec.json.decode(args) if bytes(args) else None
    return values if isinstance(values, dict) else {}


def _put_all(values: dict[str, Any], pieces: list[PartialArg]) -> None:
    for piece in pieces:
        steps = _steps(piece.json_path)
        if steps:
            _put(values, steps, piece)


def _steps(path: Any) -> list[str | int]:
    """The steps of a JSON path such as `$.rooms[0].name`; none where it cannot be followed."""
    if not isinstance(path, str) or not path.startswith("$"):
        return []
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None or len(steps) >= _DEEPEST:
            return []
        name, number, single, double = found.groups()
        if number is not None:
            steps.append(int(number))
        else:
            steps.append(name if name is not None else _unquoted(single if single is not None else double))
        at = found.end()
    return steps


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _put(values: dict[str, Any], steps: list[str | int], piece: PartialArg) -> None:
    """Set what the path leads to; text that is there already is gone on with."""
    holder: Any = values
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int):
            if not isinstance(holder, list) or step >= _MOST_ITEMS:
                return
            holder += [None] * (step + 1 - len(holder))
            before = holder[step]
        else:
            if not isinstance(holder, dict):
                return
            before = holder.get(step)
        if after is None:
            holder[step] = _value(before, piece)
            return
        if not isinstance(before, list if isinstance(after, int) else dict):
            before = holder[step] = [] if isinstance(after, int) else {}
        holder = before


def _value(before: Any, piece: PartialArg) -> Any:
    text, number = piece.string_value, piece.number_value
    if isinstance(text, str):
        return before + text if isinstance(before, str) else text
    if isinstance(number, int | float):
        return int(number) if isinstance(number, float) and number.is_integer() else number
    return piece.bool_value if isinstance(piece.bool_value, bool) else None
