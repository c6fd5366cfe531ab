"""Redaction and guards on the chat socket: each turn is a call, and the conversation has what its client has seen."""

from __future__ import annotations

from tests.conversations.ground import connected, stage
from tests.plugins.guarded import answers

REDACT = {"use": "redact", "settings": {"find": ["email"]}}
GUARD = {"use": "guard", "settings": {"deny": {"bombs": "(?i)pipe bomb"}}}
MAIL = "ann@example.com"


async def test_each_turn_is_redacted_anew_and_the_client_sees_its_values() -> None:
    async with stage(answers("openai", "Dear <EMAIL_1>"), REDACT) as on, connected(on) as ann:
        await ann.opened()
        for question in (f"I am {MAIL}", "Who am I?"):
            started = await ann.ask("turn.create", "turn.started", input=question)
            assert (await ann.hear("turn.ended"))["ending"] == "complete"
            assert ann.said(started["turn"]) == f"Dear {MAIL}"
    turns = [[message["content"] for message in exchange.json["messages"]] for exchange in on.provider.exchanges]
    assert turns == [["I am <EMAIL_1>"], ["I am <EMAIL_1>", "Dear <EMAIL_1>", "Who am I?"]]


async def test_a_turn_is_denied_and_the_next_one_is_not() -> None:
    async with stage(answers("openai", "So, a pipe bomb", "Fine."), GUARD) as on, connected(on) as ann:
        await ann.opened()
        started = await ann.ask("turn.create", "turn.started", input="hi")
        ended = await ann.hear("turn.ended")
        assert ended["ending"] == "refused"
        assert "pipe" not in ann.said(started["turn"])
        started = await ann.ask("turn.create", "turn.started", input="and now?")
        assert (await ann.hear("turn.ended"))["ending"] == "complete"
        assert ann.said(started["turn"]) == "Fine."
