"""What providers really say, kept as it came in one delivery and told in the other: it says the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from sidegate.wire.dialect import Fields
from tests.across.ground import CLIENTS, PROVIDERS, Across, Answer, across
from tests.across.test_recorded import RECORDED, counted, of_provider, plays
from tests.wire.asking import asked
from tests.wire.recordings import Case, folder
from tests.wire.saying import Said, said

CACHE: Mapping[str, Any] = {"use": "cache"}


@pytest.mark.skipif(not RECORDED, reason=f"no recorded provider traffic in {folder()}")
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_recorded_reply_says_the_same_in_the_other_delivery(provider: str) -> None:
    kept = 0
    async with across(plugins=[CACHE]) as there:
        for number, case in enumerate(of_provider(provider)):
            for client in (provider, CLIENTS[(CLIENTS.index(provider) + 1) % len(CLIENTS)]):
                kept += await _crossed(there, client, provider, case, number)
    assert kept >= 20, kept


async def _crossed(there: Across, client: str, provider: str, case: Case, number: int) -> bool:
    """Whether the reply was kept."""
    stream = case.stream or case.body.lstrip()[:1] == b"["
    there.plays[provider] = plays(case)
    fields: Fields = {**asked(client), _TAG[client]: msgspec.Raw(b"%d" % (number + 1))}
    first = await there.ask(client, provider, fields, stream=stream)
    before = there.count()
    other = await there.ask(client, provider, fields, stream=not stream)
    if there.count() > before:
        return False
    assert other.headers["cache-status"].startswith("sidegate; hit"), case.name
    one, two = _heard(first), _heard(other)
    assert (two.text, two.reasoning, two.refusal) == (one.text, one.reasoning, one.refusal), case.name
    assert [call[1:] for call in two.calls] == [call[1:] for call in one.calls], case.name
    assert two.finish == one.finish, case.name
    if one.usage is not None and one.usage.known:
        assert two.usage is not None, case.name
        assert counted(two.usage) == counted(one.usage), case.name
    return True


_TAG = {
    "openai.chat": "seed",
    "openai.responses": "max_output_tokens",
    "anthropic.messages": "max_tokens",
    "gemini.generate": "labels",
}
"""A field that makes each question another one."""


def _heard(answer: Answer) -> Said:
    assert answer.status == 200
    return said(answer.parts)
