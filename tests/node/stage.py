"""A gateway before a provider of each dialect: its models are named after the dialects, `scripts` is what they say."""

from __future__ import annotations

from typing import Any

from sidegate.testing import Exchange, Script, ScriptedProvider
from tests.relaying import until
from tests.sdk.ground import Ground
from tests.sdk.speaking import SPEAKERS

PATHS = {"openai": "/v1", "openai_responses": "/v1", "anthropic": "", "gemini": ""}
DIALECTS = tuple(PATHS)


class Stage:
    """Providers of each dialect, one gateway before all of them."""

    def __init__(self, ground: Ground, **config: Any) -> None:
        self.ground = ground
        self.providers: dict[str, ScriptedProvider] = {
            dialect: ground.provider(SPEAKERS[dialect]) for dialect in DIALECTS
        }
        retry = {"attempts": 1}
        # The tests of a worker may be those of failures alone: no circuit opens over them.
        given = {"api_key": "sk-upstream", "retry": retry, "circuit": None}
        providers = {
            name: {"dialect": name, "base_url": each.url + PATHS[name], **given}
            for name, each in self.providers.items()
        }
        models = {name: {"provider": name, "model": "real"} for name in self.providers}
        self.running = ground.gateway(
            {"providers": providers, "models": models, "pipelines": {"main": {"plugins": [{"use": "log"}]}}, **config}
        )

    @property
    def url(self) -> str:
        return self.running.url

    def reset(self) -> None:
        for dialect, provider in self.providers.items():
            provider.script = SPEAKERS[dialect]
            provider.exchanges.clear()

    def plays(self, dialect: str, script: Script) -> None:
        """What the provider of this dialect does from now on."""
        self.providers[dialect].script = script

    def asked(self, dialect: str) -> Exchange:
        """The one request that reached this provider."""
        (exchange,) = self.providers[dialect].exchanges
        return exchange

    def ended(self, ending: str) -> int:
        """How many calls ended so, by this gateway's log."""
        return sum(line["ending"] == ending for line in self.running.log.events("call"))

    def ends(self, ending: str, calls: int) -> None:
        """Wait until so many calls have ended so."""
        self.ground.do(until(lambda: self.ended(ending) == calls))
