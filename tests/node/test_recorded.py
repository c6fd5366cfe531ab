"""The vendors' clients for Node read recorded traffic through the gateway as they read it from the provider itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from sidegate.testing import Exchange, Running, ScriptedProvider
from tests.node.process import Node
from tests.relaying import leads_to
from tests.sdk.ground import Ground
from tests.sdk.scripts import play
from tests.wire.recordings import Case, parameters

SPOKEN = {"chat": "openai", "responses": "openai_responses", "messages": "anthropic", "gemini": "gemini"}
"""What the recordings call a dialect, and the config."""
VERSIONS = {"openai": "/v1", "openai_responses": "/v1", "anthropic": "", "gemini": ""}
HIDDEN = {401: 502, 403: 502, 500: 502, 529: 503}
"""Statuses that are not the client's: a key that is the gateway's, and failures in the gateway's words."""


def of_a_client(case: Case) -> bool:
    """None of these asks Gemini for an array in place of events."""
    return case.dialect in SPOKEN and not case.body.lstrip().startswith(b"[")


GOOD = parameters("", only=lambda case: of_a_client(case) and case.good)
REFUSED = parameters("", only=lambda case: of_a_client(case) and case.status != 200)
BROKEN = parameters("", only=lambda case: of_a_client(case) and case.status == 200 and not case.good)
each_maker = pytest.mark.parametrize("maker", ["vendor", "ai"])
"""The vendor's own client, and the AI SDK's of that vendor."""


class Stage:
    """One provider that plays whatever recording is set, behind a gateway for each dialect."""

    def __init__(self, ground: Ground) -> None:
        self.case: Case | None = None
        self.provider: ScriptedProvider = ground.provider(self._play)
        self.gateways: dict[str, Running] = {
            dialect: ground.gateway(self._before(dialect, version)) for dialect, version in VERSIONS.items()
        }

    def _before(self, dialect: str, version: str) -> dict[str, Any]:
        config: dict[str, Any] = leads_to(self.provider.url + version, dialect=dialect)
        config["providers"]["p0"]["retry"] = {"attempts": 1}
        return config

    async def _play(self, exchange: Exchange) -> None:
        assert self.case is not None
        await play(exchange, self.case)


@pytest.fixture(scope="module")
def recorded() -> Iterator[Stage]:
    with closing(Ground()) as ground:
        yield Stage(ground)


def readings(node: Node, recorded: Stage, case: Case, maker: str) -> tuple[Any, Any]:
    """What a client makes of a recording: straight from the provider, and through the gateway."""
    recorded.case = case
    client = case.dialect if maker == "vendor" else f"ai-{case.dialect}"
    urls = recorded.provider.url, recorded.gateways[SPOKEN[case.dialect]].url
    straight, through = (node("replay", "read", client=client, url=url, stream=case.stream) for url in urls)
    return straight, through


@each_maker
@pytest.mark.parametrize("case", GOOD)
def test_a_recorded_reply_is_read_alike(node: Node, recorded: Stage, case: Case, maker: str) -> None:
    straight, through = readings(node, recorded, case, maker)
    if "multi-message" in case.name:  # Four responses in a row: the first one's end is the end.
        kept = len(through["events"]) - (maker == "ai")  # It sums up at the end of all.
        straight["events"], through["events"] = straight["events"][:kept], through["events"][:kept]
    assert straight["events"] or maker == "ai"
    assert through["events"] == straight["events"]
    # What a client cannot read from the provider either, it cannot read for the same reason.
    errors = [(each.get("error") or {}) for each in (straight, through)]
    assert errors[0].get("message") == errors[1].get("message")
    assert errors[0].get("cause") == errors[1].get("cause")


@each_maker
@pytest.mark.parametrize("case", REFUSED)
def test_a_recorded_refusal_has_its_class(node: Node, recorded: Stage, case: Case, maker: str) -> None:
    straight, through = (each["error"] for each in readings(node, recorded, case, maker))
    assert straight["status"] == case.status
    assert through["status"] == HIDDEN.get(case.status, case.status)
    if case.status not in HIDDEN:
        assert (through["class"], through.get("isRetryable")) == (straight["class"], straight.get("isRetryable"))


@each_maker
@pytest.mark.parametrize("case", BROKEN)
def test_a_recorded_failure_in_mid_stream_is_one_after_the_same_words(
    node: Node, recorded: Stage, case: Case, maker: str
) -> None:
    """Some of them no client sees straight from the provider."""
    straight, through = readings(node, recorded, case, maker)
    kinds = [event.get("type") for event in through["events"]]
    assert "error" in through or "error" in kinds
    said = through["events"][: kinds.index("error") if "error" in kinds else None]
    assert said == straight["events"][: len(said)]
