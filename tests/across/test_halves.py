"""A provider that cuts an emoji between its UTF-16 units: half of it is no Unicode, and no reason to lose the reply."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.contract.meaning import BlockEnd, Text
from sidegate.testing import Exchange
from sidegate.testing.spoken import streams
from sidegate.wire.registry import DIALECTS
from sidegate.wire.surrogates import without_halves
from tests.across.ground import CLIENTS, PROVIDERS, UI, across
from tests.across.speaking import USED, heard, reply
from tests.wire.saying import ENVELOPE

PLACE = "HALF"
PARTS = reply(Text("a ", block=1), Text(PLACE, block=1), Text(" b", block=1), BlockEnd(block=1))
LOOKS: dict[str, Any] = {
    "use": "redact",
    "settings": {"find": [{"name": "staff", "expression": "xyzzy", "direction": "both"}]},
}


async def _cuts(dialect: str, exchange: Exchange) -> None:
    half = rb"\ud83d"
    if streams(exchange):
        encoder = DIALECTS[dialect].encoder(ENVELOPE)
        events = [encoder.encode([part]).replace(PLACE.encode(), half) for part in PARTS]
        await exchange.stream(*filter(None, events))
        return
    assembler = DIALECTS[dialect].assembler(ENVELOPE)
    assembler.add(PARTS)
    await exchange.reply(assembler.body().replace(PLACE.encode(), half))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("plugins", [[], [LOOKS]], ids=["passes", "looks"])
async def test_half_a_character_costs_that_character_alone(stream: bool, plugins: list[dict[str, Any]]) -> None:
    async with across(plugins=plugins) as on:
        for provider in PROVIDERS:
            on.plays[provider] = lambda exchange, provider=provider: _cuts(provider, exchange)  # type: ignore[misc]
            for client in [*CLIENTS, UI]:
                answer = await on.ask(client, provider, stream=stream)
                assert answer.status == 200, (client, provider, answer.body)
                if client == provider and not plugins:
                    assert rb"\ud83d" in answer.body, "bytes that pass are left as they are"
                    continue
                said, _ = heard(answer)
                assert said.text == "a � b", (client, provider)
                assert said.usage is not None
                assert said.usage.output_tokens == USED.output_tokens


@given(st.text(st.sampled_from('a"\\ud8é\n/😀\ud83d\ude00')))
def test_nothing_but_halves_is_replaced(text: str) -> None:
    """Python joins a high and a low half as JSON does; what is left is alone."""
    told = json.dumps({text: text}).encode()
    read = json.loads(told)
    mended = without_halves(told)
    wanted = {"".join("�" if "\ud800" <= one <= "\udfff" else one for one in key): value for key, value in read.items()}
    assert [*json.loads(mended)] == [*wanted]
    assert (mended is told) == (wanted == read)
