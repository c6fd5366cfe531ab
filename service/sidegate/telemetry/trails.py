"""Trails: what each plugin did to the last calls, and how long it took. Kept in memory, told when somebody asks.

Keeping one is a tuple of what its call has noted anyway; what it means is worked out when it is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

from sidegate.contract.call import Call, Mark
from sidegate.contract.reply import Attempt, Reply
from sidegate.contract.stages import Change, Ender, Hold, Tap

Outcome: TypeAlias = Literal["passed", "answered", "refused", "failed", "stepped_over", "stopped", "not_reached"]
"""`passed`: it let the call on. `answered`: by itself. `stepped_over`: an observer that failed. `stopped`: the call
ended while it was at work. `not_reached`: somebody further out had ended the call."""

Asked: TypeAlias = Literal["tap", "edit", "hold", "end"]

_KINDS: Mapping[type, Asked] = {Tap: "tap", Change: "edit", Hold: "hold", Ender: "end"}


class PluginTrail(Struct, frozen=True, kw_only=True):
    """What one plugin did to a call."""

    name: str
    outcome: Outcome
    seconds: float | None
    """Its own time, without what is further in; `None` where it was not reached."""
    stages: tuple[Asked, ...]
    """What it asked of the reply's chunks, in that order, over all runs."""


class AttemptTrail(Struct, frozen=True, kw_only=True):
    """One try at a provider."""

    number: int
    provider: str
    target: str
    ending: str | None
    error: str | None
    status: int | None
    """The provider's HTTP status."""
    begun_seconds: float
    """From the call's start until it was opened."""
    first_token_seconds: float | None
    """From its own start until the provider's first token."""
    seconds: float
    committed: bool


class TrailError(Struct, frozen=True, kw_only=True):
    """Why a call failed, and at which plugin."""

    code: str
    plugin: str | None


class Trail(Struct, frozen=True, kw_only=True):
    """A call on its way, as far as time goes. Plugins outermost first, those of attempts last."""

    object: Literal["trail"] = "trail"
    call: str
    route: str
    pipeline: str
    ending: str
    status: int
    error: TrailError | None
    plugins: tuple[PluginTrail, ...]
    attempts: tuple[AttemptTrail, ...]
    total_seconds: float
    first_token_seconds: float | None
    """Until the first token left for the client."""
    attempt_seconds: float
    """Of all attempts, with what their own plugins took."""
    other_seconds: float
    """Neither a plugin's own time nor an attempt's: the gateway, pauses between attempts, a slow reader."""


class Names(NamedTuple):
    """The plugins of a pipeline, in order."""

    pipeline: str
    plugins: Sequence[str]
    attempt: Sequence[str]


NO_NAMES = Names("", (), ())
"""Of a call that no route of the config in force has."""


class _Kept(NamedTuple):
    call: str
    route: str
    names: Names
    ending: str
    status: int
    code: str | None
    plugin: str | None
    seconds: float
    started: float
    first_token: float | None
    plugin_seconds: Mapping[str, float]
    marks: Sequence[Mark]
    attempts: Sequence[Attempt]


class Trails:
    """Those of the last `most` calls; 0 keeps none."""

    def __init__(self, most: int) -> None:
        self._kept: deque[_Kept] = deque(maxlen=most)
        self.most = most

    def keep(self, call: Call, reply: Reply, seconds: float, names: Names) -> None:
        """Remember a call that is over. Nothing is kept that leads to the call, which may hold a large body: so not its
        error either, whose traceback does."""
        notes, error = call.notes, reply.error
        self._kept.append(
            _Kept(
                call.id,
                call.route,
                names,
                reply.ending.value,
                reply.status,
                None if error is None else error.code,
                None if error is None else error.plugin,
                seconds,
                call.started,
                notes.first_token,
                notes.plugin_seconds,
                notes.marks,
                notes.attempts,
            )
        )

    def find(self, id: str) -> Trail | None:
        """What is remembered of the call of this id."""
        for kept in reversed(self._kept):
            if kept.call == id:
                return _told(kept)
        return None


def _told(kept: _Kept) -> Trail:
    first = kept.first_token
    attempts = tuple([_attempt(kept, attempt) for attempt in kept.attempts])
    tried = sum(attempt.seconds for attempt in attempts)
    own = sum(own for name, own in kept.plugin_seconds.items() if name not in kept.names.attempt)
    return Trail(
        call=kept.call,
        route=kept.route,
        pipeline=kept.names.pipeline,
        ending=kept.ending,
        status=kept.status,
        error=None if kept.code is None else TrailError(code=kept.code, plugin=kept.plugin),
        plugins=tuple([_plugin(kept, name) for name in _every(kept)]),
        attempts=attempts,
        total_seconds=kept.seconds,
        first_token_seconds=None if first is None else max(0.0, first - kept.started),
        attempt_seconds=tried,
        other_seconds=max(0.0, kept.seconds - tried - own),
    )


def _every(kept: _Kept) -> list[str]:
    """Those of its pipeline, and those it has met besides: it began with a config that is no longer in force."""
    names = [*kept.names.plugins, *kept.names.attempt]
    return names + [name for name in kept.plugin_seconds if name not in names]


def _attempt(kept: _Kept, attempt: Attempt) -> AttemptTrail:
    began, first = attempt.started, attempt.first_token
    ended = attempt.ended if attempt.ended is not None else kept.started + kept.seconds
    return AttemptTrail(
        number=attempt.number,
        provider=attempt.provider,
        target=attempt.target,
        ending=None if attempt.ending is None else attempt.ending.value,
        error=attempt.error,
        status=attempt.status,
        begun_seconds=max(0.0, began - kept.started),
        first_token_seconds=None if first is None else max(0.0, first - began),
        seconds=max(0.0, ended - began),
        committed=attempt.committed,
    )


def _plugin(kept: _Kept, name: str) -> PluginTrail:
    done = [what for marked, what in kept.marks if marked == name]
    stages = tuple([_KINDS[kind] for what in done if isinstance(what, tuple) for kind in what if kind in _KINDS])
    seconds = kept.plugin_seconds.get(name)
    return PluginTrail(name=name, outcome=_outcome(kept, name, done), seconds=seconds, stages=stages)


def _outcome(kept: _Kept, name: str, done: Sequence[object]) -> Outcome:
    if name not in kept.plugin_seconds:
        return "not_reached"
    blamed = kept.plugin == name
    if "failed" in done:
        return "failed" if blamed else "stepped_over"
    if blamed:
        return "refused"
    if "turned" in done:
        return "answered" if kept.code is None else "stopped"
    return "passed"
