"""Which models a caller may use. What it may not use does not exist for it: 404, and not in the list of models.

Needs to know the caller, so it stands inside `api_key`. Who is on no list sees `default`: nothing, unless you say so.
The models that a key allows narrow a list of its caller or team; who is on none of these sees what the key allows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, ClassVar

from msgspec import Meta, Struct, field

from sidegate.contract import Call, Caller, Enforced, Handler, Host, Plugin, Reply

_TEAM = "team:"

Pattern = Annotated[str, Meta(min_length=1, pattern=r"^[^*]*\*?$")]
"""A model name, or its beginning and `*`."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    callers: Annotated[
        dict[str, tuple[Pattern, ...]],
        Meta(description="Models by caller, by `team:NAME`, or by `*` for everybody else. A name may end in `*`."),
    ] = field(default_factory=dict)
    default: Annotated[tuple[Pattern, ...], Meta(description="Models of callers on no list.")] = ()


class ModelAccess(Plugin[Settings]):
    """Restricts what the call can see; the router answers 404 for the rest, in the client's dialect."""

    deliveries: ClassVar[frozenset[str]] = frozenset({"buffered", "stream", "job", "socket"})
    enforces: ClassVar[frozenset[Enforced]] = frozenset({"models"})

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        if settings.default and "*" in settings.callers:
            raise ValueError("default and callers['*'] say the same thing: keep one of them")
        self._lists = {name: _visible(patterns) for name, patterns in settings.callers.items()}
        self._rest = self._lists.get("*", _visible(settings.default))
        self._allowed = lru_cache(1024)(_visible)

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        own = self._list(call.caller)
        allowance = call.caller.allowance
        if allowance is not None and allowance.models:
            call.restrict_models(self._allowed(allowance.models))
            if own is not None:
                call.restrict_models(own)
        else:
            call.restrict_models(self._rest if own is None else own)
        return await handler(call)

    def _list(self, caller: Caller) -> Callable[[str], bool] | None:
        """The caller's own list, else its team's: the first counts, they are not added up."""
        if caller.name in self._lists and not caller.name.startswith(_TEAM) and caller.name != "*":
            return self._lists[caller.name]
        return self._lists.get(f"{_TEAM}{caller.team}") if caller.team else None


def _visible(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    exact = frozenset(pattern for pattern in patterns if not pattern.endswith("*"))
    beginnings = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    return lambda model: model in exact or model.startswith(beginnings)
