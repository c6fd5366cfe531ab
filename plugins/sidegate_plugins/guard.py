"""Lets pass only what may: patterns that deny or allow, and an endpoint that moderates, for requests and replies.

Replies are judged while they stream: a text is released when it has been judged, and not before. Whatever cannot be
judged does not pass: an endpoint that is down, slow or says something else is a refusal.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal, NoReturn

from msgspec import Meta, Struct

from sidegate.contract import Call, Handler, Host, Plugin, Reply
from sidegate.errors import Refusal
from sidegate_plugins._guard_moderation import Moderation, Moderator
from sidegate_plugins._guard_reply import Pace, Reading
from sidegate_plugins._guard_texts import judged, latest
from sidegate_plugins._redact_request import TYPES, texts, unreadable
from sidegate_plugins._text_pattern import parsed
from sidegate_plugins._text_window import Patterns, rewritten

Name = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$")]
Rules = Annotated[dict[Name, Annotated[str, Meta(max_length=4000)]], Meta(max_length=256)]
Role = Literal["system", "user", "assistant"]

_ASKED = frozenset(("chat", "text_completion", "embeddings", "count_tokens"))
_TOLD = frozenset(("chat", "text_completion"))
_LARGE = 65_536
"""Characters of a request from which on patterns look in a thread."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    check: Annotated[Literal["request", "reply", "both"], Meta(description="What is judged.")] = "both"
    deny: Annotated[Rules, Meta(description="Regular expressions by names: what one matches does not pass.")] = {}
    allow: Annotated[
        Rules, Meta(description="The same: where there are some, one must match what the user says now, in requests.")
    ] = {}
    moderation: Annotated[Moderation | None, Meta(description="An endpoint that judges texts; null for none.")] = None
    roles: Annotated[
        tuple[Role, ...], Meta(min_length=1, description="Whose turns of a request are judged; tools answer as users.")
    ] = ("user",)
    turns: Annotated[
        Literal["all", "latest"], Meta(description="All turns of the request, or those after the model's last one.")
    ] = "all"
    unreadable: Annotated[
        Literal["pass", "refuse"], Meta(description="Images, files that are no text, tokens, and what nobody can read.")
    ] = "pass"
    every: Annotated[
        int,
        Meta(ge=1, le=100_000, description="Characters of a stream that moderation waits for, to a sentence's end."),
    ] = 200
    window: Annotated[
        int, Meta(ge=1, le=100_000, description="Characters of a stream that moderation holds at most.")
    ] = 1000


class Guard(Plugin[Settings]):
    """Judges the request before anybody is asked, and the reply before anybody sees it."""

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        if not (settings.deny or settings.allow or settings.moderation):
            raise ValueError("neither deny, allow nor moderation is set: nothing would be judged")
        if settings.allow and settings.check == "reply":
            raise ValueError("allow is for requests, and check is reply")
        if settings.window < settings.every:
            raise ValueError("window is smaller than every")
        self._names = list(settings.deny)
        self._deny = _patterns("deny", settings.deny)
        self._allow = _patterns("allow", settings.allow)
        self._moderator = None if settings.moderation is None else Moderator(settings.moderation, host)
        self._verdicts = host.metrics.counter(
            "guard_verdicts", "What was judged, by what it was and what became of it.", ("stage", "verdict")
        )

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if call.asked.wrong is None and call.operation in _ASKED and self.settings.check != "reply":
            await self._request(call)
        if call.operation in _TOLD and self.settings.check != "request" and (self._deny or self._moderator):
            return await self._reply(call, handler)
        return await handler(call)

    # --- requests -----------------------------------------------------------------------------------------------------

    async def _request(self, call: Call) -> None:
        asked, settings = call.request, self.settings
        if settings.unreadable == "refuse" and (what := unreadable(asked)) is not None:
            said = f"The request holds {what}, which cannot be judged here."
            raise Refusal(400, "content_unreadable", said)
        found = judged(asked, settings.roles, all_turns=settings.turns == "all")
        if call.asked.unsaid is not None:
            found += texts(list(call.asked.unsaid().values()), TYPES)
        if self._deny is not None:
            large = sum(map(len, found)) > _LARGE
            rule = await asyncio.to_thread(self._denied, found) if large else self._denied(found)
            if rule is not None:
                self._refuse(call, "request", rule)
        if self._allow is not None and not self._is_allowed(call):
            self._refuse(call, "request", "allow")
        await self._moderated(call, "request", found)
        self._verdicts.add(stage="request", verdict="passed")

    def _denied(self, found: list[str]) -> str | None:
        assert self._deny is not None
        for text in found:
            if (match := _first(self._deny, text)) is not None:
                return self._names[match]
        return None

    def _is_allowed(self, call: Call) -> bool:
        assert self._allow is not None
        turns = [message.text for message in latest(call.request) if message.role == "user" and message.text.strip()]
        texts = turns + [one for one in call.request.input if isinstance(one, str)]
        allow = self._allow
        return bool(texts) and all(_first(allow, text) is not None for text in texts)

    # --- replies ------------------------------------------------------------------------------------------------------

    async def _reply(self, call: Call, handler: Handler) -> Reply:
        def denied(number: int, value: str) -> NoReturn:
            self._refuse(call, "reply", self._names[number])

        async def judge(texts: list[str]) -> None:
            await self._moderated(call, "reply", texts)

        pace = Pace(self.settings.every, self.settings.window) if call.streams else None
        call.change(Reading(self._deny, denied, judge if self._moderator else None, pace, call.hold_limit))
        reply = await handler(call)
        self._verdicts.add(stage="reply", verdict="passed")
        return reply

    # --- verdicts -----------------------------------------------------------------------------------------------------

    async def _moderated(self, call: Call, stage: Literal["request", "reply"], texts: list[str]) -> None:
        if self._moderator is None:
            return
        try:
            rule = await self._moderator.objection(texts, stage, call.id)
        except Refusal:
            self._verdicts.add(stage=stage, verdict="unjudged")
            raise
        if rule is not None:
            self._refuse(call, stage, rule)

    def _refuse(self, call: Call, stage: Literal["request", "reply"], rule: str) -> NoReturn:
        """By its name: what was said is told to nobody."""
        self._verdicts.add(stage=stage, verdict="denied")
        self.host.log.write("guard_denied", {"call": call.id, "stage": stage, "rule": rule})
        raise Refusal(400, "content_filter", f"The {stage} was stopped by the rule `{rule}`.")


def _patterns(setting: str, rules: dict[str, str]) -> Patterns | None:
    found = []
    for name, expression in rules.items():
        try:
            found.append(parsed(expression))
        except ValueError as error:
            raise ValueError(f"{setting}: the expression of {name!r} {error}") from None
    return Patterns(found) if found else None


class _Found(Exception):
    """Carries the number of a pattern out of a search."""


def _first(patterns: Patterns, text: str) -> int | None:
    """The number of the first pattern that matches; searched by slices, as a stream is."""

    def stop(number: int, value: str) -> NoReturn:
        raise _Found(number)

    try:
        rewritten(text, patterns, stop)
    except _Found as found:
        return int(found.args[0])
    return None
