"""Choice: where a model name leads, and in which order its targets are tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal

from sidegate.contract.call import Call
from sidegate.contract.host import Model
from sidegate.errors import Refusal
from sidegate.settings import Choice, Target, Translation, as_choice

UNKNOWN = "unknown"
"""The label of names that the config does not know."""


class Chosen:
    """A model name of the config with its targets."""

    __slots__ = ("name", "strategy", "strict", "targets", "timeouts")

    def __init__(self, name: str, choice: Choice, translation: Translation = "lenient") -> None:
        self.name = name
        """As the config spells it: a pattern for what it matches."""
        self.targets = choice.leads_to
        self.strategy: Literal["ordered", "weighted"] = choice.strategy
        self.timeouts = choice.timeouts
        self.strict = (choice.translation or translation) == "strict"
        """A target that cannot be asked all of a request is not asked."""

    def order(self, random: Random) -> Sequence[Target]:
        """The targets as they are to be tried by one call. Draws only where there is a choice by weight."""
        if self.strategy == "ordered" or len(self.targets) == 1:
            return self.targets
        return drawn(self.targets, random)


class Catalogue:
    """The model names of the config: exact ones first, then the longest pattern that fits."""

    def __init__(self, models: Mapping[str, Choice | tuple[Target, ...]], translation: Translation = "lenient") -> None:
        self._exact: dict[str, Chosen] = {}
        patterns: list[tuple[str, Chosen]] = []
        for name, leads in models.items():
            chosen = Chosen(name, as_choice(leads), translation)
            if name.endswith("*"):
                patterns.append((name[:-1], chosen))
            else:
                self._exact[name] = chosen
        self._patterns = sorted(patterns, key=lambda pattern: -len(pattern[0]))
        self.names = tuple(self._exact)
        """Names without patterns: what `GET /v1/models` can list."""

    def find(self, call: Call) -> Chosen:
        """Where the call's model leads. 404 where it is unknown, or unknown to this caller."""
        chosen = self._find(call.model)
        if chosen is None or not call.sees_model(call.model):
            raise unknown_model(call.model)
        return chosen

    def label(self, name: str) -> str:
        """The name as the config spells it, for metrics: a pattern for what it matches, `unknown` for the rest."""
        chosen = self._find(name)
        return chosen.name if chosen is not None else UNKNOWN

    def all(self) -> tuple[Chosen, ...]:
        """Every name, patterns last."""
        return (*self._exact.values(), *(chosen for _, chosen in self._patterns))

    def models(self) -> tuple[Model, ...]:
        """For the host: every name with where it leads."""
        return tuple(Model(c.name, tuple((t.provider, t.model or c.name) for t in c.targets)) for c in self.all())

    def _find(self, name: str) -> Chosen | None:
        chosen = self._exact.get(name)
        if chosen is not None:
            return chosen
        for prefix, fits in self._patterns:
            if name.startswith(prefix):
                # No model's name holds a NUL, and PostgreSQL no text with one.
                return fits if "\0" not in name else None
        return None


def unknown_model(name: str) -> Refusal:
    """The one answer to a model that is not there and to one that is not the caller's."""
    return Refusal(404, "model_not_found", f"The model `{name[:200]}` does not exist.", param="model")


def drawn(targets: Sequence[Target], random: Random) -> list[Target]:
    """All targets, each place drawn by weight from those that are left; weight 0 comes last, in the config's order."""
    left = [target for target in targets if target.weight]
    order: list[Target] = []
    total = sum(target.weight for target in left)
    while len(left) > 1:
        target = _draw(left, random.random() * total)
        left.remove(target)
        order.append(target)
        total -= target.weight
    return [*order, *left, *(target for target in targets if not target.weight)]


def _draw(targets: Sequence[Target], point: float) -> Target:
    """The one on whose stretch of the line the point lies."""
    for target in targets:
        point -= target.weight
        if point < 0:
            return target
    return targets[-1]
