"""Across: what each provider was recorded to say, heard by every client of another dialect through the gateway.

The text, the calls with their arguments as JSON, the finish reason and the usage are the same, or what `HEARD` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from sidegate.contract.meaning import End, Part, Usage
from sidegate.errors import ProviderError
from sidegate.testing import Exchange
from sidegate.wire.registry import DIALECTS
from tests.across.ground import CLIENTS, PROVIDERS, UI, Across, Answer, across
from tests.across.speaking import heard
from tests.wire.recordings import Case, cases, folder
from tests.wire.saying import Said, flat, said
from tests.wire.ui_reading import read as read_page

SPOKEN = {
    "chat": "openai.chat",
    "responses": "openai.responses",
    "messages": "anthropic.messages",
    "gemini": "gemini.generate",
}
"""The recordings' word for a dialect, and ours."""

HEARD: Mapping[str, Mapping[str, str]] = {
    "openai.chat": {"refusal": "content_filter", "other": "stop"},
    "openai.responses": {"other": "stop", "refusal": "content_filter"},
    "anthropic.messages": {"content_filter": "refusal", "other": "stop"},
    "gemini.generate": {"refusal": "content_filter"},
    UI: {"refusal": "content_filter"},
}
"""By client: finish reasons that it has another word for."""


def recorded(case: Case) -> list[Part]:
    """What a provider said, as the gateway reads it."""
    dialect = DIALECTS[SPOKEN[case.dialect]]
    if not case.stream and case.body.lstrip()[:1] != b"[":
        dialect.meter().whole(case.body)
        return [*dialect.read_whole(case.body)]
    splitter, meter = dialect.splitter(), dialect.meter()
    events = splitter.feed(case.body)
    rest = splitter.close()
    batches: list[tuple[Part, ...]] = []
    for event in [*events, *([rest + b"\n\n"] if rest else [])]:
        meter.event(event)
        batches.append((meter.reader or dialect.read_event)(event))
        if batches[-1] and batches[-1][-1] == End():
            break
    return flat(batches)


def plays(case: Case) -> Any:
    async def script(exchange: Exchange) -> None:
        if case.stream:
            await exchange.head(Transfer_Encoding="chunked")
            # Cut anywhere: events arrive as they please.
            for at in range(0, len(case.body), 4001):
                await exchange.chunk(case.body[at : at + 4001])
            await exchange.chunk(b"")
        else:
            await exchange.reply(case.body)

    return script


def told_to(client: str, told: Said) -> Said:
    """What a client can have of it."""
    words = HEARD[client]
    finish = words.get(told.finish or "stop", told.finish or "stop")
    text, refusal, usage = told.text, told.refusal, told.usage
    if client == "openai.responses":
        finish = _ended(told, finish)
    if client != "openai.responses" and client != "openai.chat":
        text, refusal = text + refusal, ""
    calls = [(id, name, value if isinstance(value, dict) else {}) for id, name, value in told.calls]
    if client not in ("gemini.generate", "anthropic.messages"):
        calls = told.calls
    return Said(text, told.reasoning, refusal, calls, finish, usage)


def _ended(told: Said, finish: str) -> str:
    """Responses tell that a reply was completed; what it was is seen by what is in it."""
    if told.refusal and told.finish == "refusal":
        return "refusal"
    if finish in ("length", "content_filter"):
        return finish
    if told.calls:
        return "tool_calls"
    return "refusal" if told.refusal else "stop"


def counted(usage: Usage) -> tuple[int | None, ...]:
    """Tokens in, out, cached and thought; what was not told of the last two is 0 where a dialect demands it."""
    return usage.input_tokens, usage.output_tokens, usage.cache_read_tokens or 0, usage.reasoning_tokens or 0


def check(client: str, case: Case, answer: Answer, told: Said) -> None:
    got, _ = heard(answer)
    expected = told_to(client, told)
    assert (got.text, got.refusal, got.reasoning) == (expected.text, expected.refusal, expected.reasoning), case.name
    assert [call[1:] for call in got.calls] == [call[1:] for call in expected.calls], case.name
    assert all(was in (None, id) for (id, _, _), (was, _, _) in zip(got.calls, expected.calls, strict=True)), case.name
    # A call that came without an id is given one, but where the dialect does without.
    assert client == "gemini.generate" or all(id for id, _, _ in got.calls), case.name
    finish = "stop" if client == "gemini.generate" and got.finish is None else got.finish
    assert finish == expected.finish, case.name
    if expected.usage is not None and expected.usage.known:
        assert got.usage is not None, case.name
        assert counted(got.usage) == counted(expected.usage), case.name


def of_provider(provider: str) -> list[Case]:
    """Every case that was recorded in a dialect, good and bad."""
    return [case for case in RECORDED if SPOKEN.get(case.dialect) == provider and case.status == 200]


RECORDED = cases("")


@pytest.mark.skipif(not RECORDED, reason=f"no recorded provider traffic in {folder()}")
@pytest.mark.parametrize(
    ("provider", "client"),
    # In one dialect bytes pass, and the vendor's own client reads them: see tests/sdk.
    [(provider, client) for provider in PROVIDERS for client in (*CLIENTS, UI) if client != provider],
)
async def test_every_recorded_reply_is_heard_by_every_other_client(provider: str, client: str) -> None:
    async with across() as there:
        for case in of_provider(provider):
            await hear(there, client, provider, case)


async def hear(there: Across, client: str, provider: str, case: Case) -> None:
    stream = case.stream or case.body.lstrip()[:1] == b"["
    there.plays[provider] = plays(case)
    answer = await there.ask(client, provider, stream=stream)
    try:
        told = said(recorded(case))
    except ProviderError as error:
        check_failed(case, answer, error)
        return
    if told.finish is None and stream and not case.good:
        return
    check(client, case, answer, told)


def check_failed(case: Case, answer: Answer, error: ProviderError) -> None:
    """A provider that fails in its reply: an error reply, or an event after what was said."""
    if answer.status != 200:
        assert answer.status == error.status or answer.status >= 500, case.name
        return
    if answer.client == UI:
        assert read_page(answer.body).error, case.name
        return
    with pytest.raises(ProviderError):
        _ = answer.parts
