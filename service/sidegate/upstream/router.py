"""The router: which targets a model name leads to, and which of them answers. The core of every pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sidegate.contract.call import Call
from sidegate.contract.host import Clock, Model
from sidegate.contract.plugin import Handler
from sidegate.contract.reply import Attempt, Reply
from sidegate.errors import Ending, ProviderError, Refusal, SidegateError
from sidegate.pump import Gate
from sidegate.settings import Target
from sidegate.upstream.provider import Provider


class Catalogue:
    """The model names of the config: exact ones first, then the longest pattern that fits."""

    def __init__(self, models: Mapping[str, Target | tuple[Target, ...]]) -> None:
        self._exact: dict[str, tuple[Target, ...]] = {}
        patterns: list[tuple[str, str, tuple[Target, ...]]] = []
        for name, leads in models.items():
            targets = leads if isinstance(leads, tuple) else (leads,)
            if name.endswith("*"):
                patterns.append((name[:-1], name, targets))
            else:
                self._exact[name] = targets
        self._patterns = sorted(patterns, key=lambda pattern: -len(pattern[0]))
        self.names = tuple(self._exact)
        """Names without patterns: what `GET /v1/models` can list."""

    def find(self, call: Call) -> tuple[Target, ...]:
        """The targets of the call's model. 404 where it is unknown, or unknown to this caller."""
        name = call.model
        targets = self._exact.get(name) or next((t for prefix, _, t in self._patterns if name.startswith(prefix)), None)
        if targets is None or not call.sees_model(name):
            raise unknown_model(name)
        return targets

    def label(self, name: str) -> str:
        """The name as the config spells it, for metrics: a pattern for what it matches, `unknown` for the rest."""
        if name in self._exact:
            return name
        return next((pattern for prefix, pattern, _ in self._patterns if name.startswith(prefix)), "unknown")

    def models(self) -> tuple[Model, ...]:
        """For the host: every name with where it leads."""
        named = [*self._exact.items(), *((pattern, targets) for _, pattern, targets in self._patterns)]
        return tuple(Model(name, tuple((t.provider, t.model or name) for t in targets)) for name, targets in named)


def unknown_model(name: str) -> Refusal:
    """The one answer to a model that is not there and to one that is not the caller's."""
    return Refusal(404, "model_not_found", f"The model `{name[:200]}` does not exist.", param="model")


class Router:
    """Opens attempts, in the order of the targets, until one has committed or none is left."""

    def __init__(
        self, catalogue: Catalogue, providers: Mapping[str, Provider], attempt_handler: Handler, clock: Clock
    ) -> None:
        self._catalogue = catalogue
        self._providers = providers
        self._attempt_handler = attempt_handler
        self._clock = clock

    async def __call__(self, call: Call) -> Reply:
        targets = self._catalogue.find(call)
        for left, target in zip(range(len(targets) - 1, -1, -1), targets, strict=True):
            attempt = self._open(call, target)
            try:
                return await self._try(call, attempt)
            except ProviderError as error:
                if not left or attempt.committed or not error.retryable:
                    raise
        raise AssertionError("a model without targets")

    def _open(self, call: Call, target: Target) -> Attempt:
        attempt = Attempt(
            number=len(call.attempts) + 1,
            provider=target.provider,
            target=target.model or call.model,
            system=self._providers[target.provider].system,
            started=self._clock.monotonic(),
            started_at=self._clock.now(),
        )
        call.attempts.append(attempt)
        return attempt

    async def _try(self, call: Call, attempt: Attempt) -> Reply:
        try:
            reply = await self._attempt_handler(call.child(attempt, Gate(call, attempt)))
            attempt.ending = Ending.COMPLETE
            return reply
        except SidegateError as error:
            attempt.ending, attempt.error = error.ending, error.code
            if isinstance(error, ProviderError) and error.provider_status is not None:
                attempt.status = error.provider_status
            raise
        except asyncio.CancelledError:
            attempt.ending = call.notes.stop.ending if call.notes.stop is not None else Ending.CANCELLED
            raise
        finally:
            attempt.ended = self._clock.monotonic()
            attempt.ending = attempt.ending or Ending.FAILED


async def answer(providers: Mapping[str, Provider], call: Call) -> Reply:
    """The innermost handler of an attempt: its provider."""
    assert call.attempt is not None
    return await providers[call.attempt.provider](call)
