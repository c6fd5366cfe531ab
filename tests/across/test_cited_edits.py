"""Edits of what a reply cites hold in whole replies as they do in streams, where nothing else of the reply changes."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from sidegate.contract import Call, Chunk, Citation, Ending, Handler, Opaque, Plugin, Reply
from tests.across.ground import CLIENTS, PROVIDERS, across
from tests.across.speaking import TEXT, URL, citing, plays

OTHER = "https://example.com/lake"


class _Sources:
    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps

    def see(self, chunk: Chunk) -> list[Chunk]:
        (part,) = chunk.parts or (None,)
        if isinstance(part, Citation):
            return [Chunk.of(replace(part, url=OTHER, data=None))] if self._keeps else []
        # Gemini's grounding has no word, and says the same.
        return [] if isinstance(part, Opaque) else [chunk]

    def end(self, ending: Ending) -> list[Chunk]:
        return []


class Drops(Plugin[None]):
    """No client is told where something is from."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        call.change(_Sources(keeps=False))
        return await handler(call)


class Leads(Plugin[None]):
    """Every client is led elsewhere."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        call.change(_Sources(keeps=True))
        return await handler(call)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("plugin", ["Drops", "Leads"])
async def test_what_an_edit_does_to_citations_is_done(stream: bool, plugin: str) -> None:
    used: dict[str, Any] = {"use": f"tests.across.test_cited_edits:{plugin}"}
    async with across(plugins=[used]) as on:
        for provider in PROVIDERS:
            on.plays[provider] = plays(provider, citing())
            for client in CLIENTS:
                answer = await on.ask(client, provider, stream=stream)
                assert answer.status == 200
                assert "".join(getattr(part, "text", "") for part in answer.parts) == TEXT
                assert URL.encode() not in answer.body, (client, provider)
                # Gemini's own grounding passes as it is, or not at all.
                led = plugin == "Leads" and (client, provider) != ("gemini.generate", "gemini.generate")
                assert (OTHER.encode() in answer.body) is led, (client, provider)
