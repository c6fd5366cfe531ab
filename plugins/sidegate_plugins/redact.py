"""Keeps what is personal or secret from providers: they see placeholders, and the caller gets the real values back.

What patterns find in a request, wherever text stands in it, gives way to `<EMAIL_1>` and the like before a provider
sees it. Where the reply says a placeholder, in its text, in JSON or in the arguments of a tool call, and however the
events of a stream cut it, its value is put back. Values can be masked, removed or refused instead, and in replies too.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from msgspec import Meta, Struct

from sidegate.contract import Call, Handler, Host, Plugin, Reply
from sidegate.errors import Refusal
from sidegate_plugins._redact_reply import Rewording
from sidegate_plugins._redact_request import unreadable
from sidegate_plugins._redact_values import Find, Hidden, Name, Side, label_of, placeholders, side_of

_OPERATIONS = frozenset(("chat", "text_completion", "embeddings", "count_tokens"))
_KEPT = ("previous_response_id", "conversation", "cachedContent")
"""Fields that name a conversation which the provider keeps, with placeholders of earlier calls in it."""
_LARGE = 65_536
"""Bytes of a request from which on it is looked through in a thread."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    find: Annotated[
        tuple[Name | Find, ...],
        Meta(min_length=1, max_length=64, description="What to look for: names that are known, or `name` and more."),
    ]
    unreadable: Annotated[
        Literal["pass", "refuse"], Meta(description="Images, files that are no text, tokens, and what nobody can read.")
    ] = "pass"
    reasoning: Annotated[
        Literal["auto", "pass", "edit"],
        Meta(description="Whether the thinking in replies is changed; `auto`: where something is looked for in them."),
    ] = "auto"


class Redact(Plugin[Settings]):
    """Rewrites the request on its way in, and the reply on its way out."""

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        rules = [Find(name=each) if isinstance(each, str) else each for each in settings.find]
        if len({rule.name for rule in rules}) < len(rules):
            raise ValueError("find names one pattern twice")
        told = [rule for rule in rules if rule.direction != "request"]
        asked = [rule for rule in rules if rule.direction != "reply"]
        back = [rule for rule in asked if rule.mode == "reversible"]
        mark = placeholders(back) if back else None
        self._asked = side_of(asked)
        self._told = side_of(told, mark)
        self._back = side_of([], mark)
        self._hides = bool(told)
        self._counted = host.metrics.counter(
            "redactions", "Values that were found, by pattern and direction.", ("pattern", "direction")
        )

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.operation not in _OPERATIONS or call.asked.wrong is not None:
            return await handler(call)
        hidden = Hidden(self._asked, self._tag(call))
        if self._asked is not None:
            await self._rewrite(call, hidden)
        side = self._told if self._hides else self._back if hidden.values else None
        if side is not None and call.operation in ("chat", "text_completion"):
            shape = call.request.response_format
            call.change(
                Rewording(
                    side.patterns,
                    lambda number, value: self._said(side, number, value, hidden),
                    reasoning=self._edits_reasoning,
                    is_json=shape is not None and shape.kind != "text",
                )
            )
        return await handler(call)

    @property
    def _edits_reasoning(self) -> bool:
        said = self.settings.reasoning
        return said == "edit" or (said == "auto" and self._hides)

    async def _rewrite(self, call: Call, hidden: Hidden) -> None:
        asked = call.request
        if self.settings.unreadable == "refuse" and (what := unreadable(asked)) is not None:
            raise Refusal(
                400, "redaction_impossible", f"The request holds {what}, which cannot be looked through here."
            )
        unsaid = call.asked.unsaid() if call.asked.unsaid is not None else {}
        large = len(call.asked.body) > _LARGE
        rewritten = await asyncio.to_thread(hidden.request, asked, unsaid) if large else hidden.request(asked, unsaid)
        for rule, count in hidden.counts.items():
            self._counted.add(count, pattern=rule, direction="request")
        if rewritten is not asked:
            call.request = rewritten

    def _tag(self, call: Call) -> str:
        """Placeholders of a conversation that the provider keeps are told apart from those of earlier calls."""
        return call.id[-6:].upper() + "_" if any(name in call.asked.fields for name in _KEPT) else ""

    def _said(self, side: Side, number: int, value: str, hidden: Hidden) -> str:
        """What the client sees instead of what stands in the reply."""
        if number == len(side.rules):
            return hidden.value_of(value)
        rule = side.rules[number]
        self._counted.add(pattern=rule.name, direction="reply")
        if rule.mode == "refuse":
            raise Refusal(502, "redaction_refused", f"The reply holds what may not be told here ({rule.name}).")
        return "" if rule.mode == "remove" else f"<{label_of(rule)}>"
