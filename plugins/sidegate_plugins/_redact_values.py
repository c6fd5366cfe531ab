"""What `redact` looks for, and the values it has hidden in one call."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from sidegate.contract import Request
from sidegate.errors import Refusal
from sidegate_plugins._redact_known import KNOWN
from sidegate_plugins._redact_request import TYPES, Rewriting, texts
from sidegate_plugins._text_pattern import Pattern, parsed
from sidegate_plugins._text_window import Check, Patterns, rewritten

Mode = Literal["reversible", "mask", "remove", "refuse"]
Direction = Literal["request", "reply", "both"]
Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,39}$")]


class Find(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to look for, and what becomes of it."""

    name: Annotated[Name, Meta(description="A name that is known, or of your own; placeholders are named by it.")]
    expression: Annotated[
        str, Meta(max_length=4000, description="Regular expression; empty for the one that is known by the name.")
    ] = ""
    mode: Annotated[Mode, Meta(description="What becomes of a value: see the page.")] = "reversible"
    direction: Annotated[Direction, Meta(description="Where it is looked for.")] = "request"


@dataclass(frozen=True, slots=True)
class Side:
    """What is looked for in one direction."""

    rules: tuple[Find, ...]
    patterns: Patterns


@dataclass(slots=True)
class Hidden:
    """The values of one call, by their placeholders. Lives no longer than the call, and is shown to nobody."""

    side: Side | None
    tag: str
    values: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _marks: dict[tuple[str, str], str] = field(default_factory=dict)
    _last: dict[str, int] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def request(self, asked: Request, unsaid: Mapping[str, Sequence[Any]]) -> Request:
        """The request as providers see it. Raises `Refusal` where a value stands that cannot be replaced: in a field of
        no word, at the top of the request or, `unsaid`, deep in it."""
        assert self.side is not None
        back = [rule for rule in self.side.rules if rule.mode == "reversible"]
        if back:
            self._note_taken(asked, back)
        side = self.side
        rewriting = Rewriting(
            lambda text: rewritten(text, side.patterns, self._replaced),
            lambda text: rewritten(text, side.patterns, self._replaced, is_json=True),
        )
        shown = rewriting.request(asked)
        for name, value in [*asked.extra.items(), *((name, [*values]) for name, values in unsaid.items())]:
            for text in texts(value, TYPES):
                if self.side.patterns.find(text, 0, len(text), {}) is not None:
                    raise Refusal(
                        400,
                        "redaction_impossible",
                        f"`{name[:100]}` holds a value that cannot be replaced there.",
                        param=name[:100],
                    )
        return shown

    def value_of(self, placeholder: str) -> str:
        """What a placeholder stands for; itself where it is not one of this call."""
        return self.values.get(_canonical(placeholder), placeholder)

    def _note_taken(self, asked: Request, back: list[Find]) -> None:
        """Words of the conversation that look like placeholders stay what they are."""
        expression = re.compile(placeholders(back).full)

        def note(text: str) -> str:
            if "_" in text:
                self._taken.update(_canonical(found[0]) for found in expression.finditer(text))
            return text

        Rewriting(note, note).request(asked)

    def _replaced(self, number: int, value: str) -> str:
        assert self.side is not None
        rule = self.side.rules[number]
        self.counts[rule.name] = self.counts.get(rule.name, 0) + 1
        if rule.mode == "refuse":
            raise Refusal(400, "redaction_refused", f"The request holds what may not be sent from here ({rule.name}).")
        if rule.mode != "reversible":
            return "" if rule.mode == "remove" else f"<{label_of(rule)}>"
        label = label_of(rule)
        if (known := self._marks.get((label, value))) is not None:
            return known
        placeholder = ""
        while not placeholder or placeholder in self._taken:
            self._last[label] = self._last.get(label, 0) + 1
            placeholder = f"<{label}_{self.tag}{self._last[label]}>"
        self._marks[label, value] = placeholder
        self.values[placeholder] = value
        return placeholder


def label_of(rule: Find) -> str:
    """How placeholders name it."""
    return rule.name.upper()


def placeholders(rules: list[Find]) -> Pattern:
    """Placeholders, also as models write them that escape for HTML or Markdown."""
    labels = "|".join(re.escape(label_of(rule)).replace("_", r"\\?_") for rule in rules)
    return parsed(rf"(?:\\?<|&lt;)(?:{labels})\\?_(?:[0-9A-F]{{6}}\\?_)?[1-9]\d{{0,5}}(?:\\?>|&gt;)")


def _canonical(placeholder: str) -> str:
    return placeholder.replace("\\", "").replace("&lt;", "<").replace("&gt;", ">")


def side_of(rules: Sequence[Find], mark: Pattern | None = None) -> Side | None:
    """Raises `ValueError` for what cannot be looked for. Last of all, in replies, are placeholders: `mark`."""
    found = [_pattern(rule) for rule in rules] + ([] if mark is None else [(mark, None)])
    if not found:
        return None
    return Side(tuple(rules), Patterns([pattern for pattern, _ in found], [check for _, check in found]))


def _pattern(rule: Find) -> tuple[Pattern, Check | None]:
    known = KNOWN.get(rule.name)
    if not rule.expression and known is None:
        raise ValueError(f"find: {rule.name!r} is not known, and has no expression; known are {', '.join(KNOWN)}")
    try:
        if rule.expression or known is None:
            return parsed(rule.expression), None
        return parsed(known.expression), known.check
    except ValueError as error:
        raise ValueError(f"find: the expression of {rule.name!r} {error}") from None
