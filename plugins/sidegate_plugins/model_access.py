"""Which models a caller may use. What it may not use does not exist for it: 404, and not in the list of models.

Needs to know the caller, so it stands inside `api_key`. Who is on no list sees `default`: nothing, unless you say so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta, Struct, field

from sidegate.contract import Call, Caller, Handler, Host, Plugin, Reply

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

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        if settings.default and "*" in settings.callers:
            raise ValueError("default and callers['*'] say the same thing: keep one of them")
        self._lists = {name: _visible(patterns) for name, patterns in settings.callers.items()}
        self._rest = self._lists.get("*", _visible(settings.default))

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        call.restrict_models(self._list(call.caller))
        return await handler(call)

    def _list(self, caller: Caller) -> Callable[[str], bool]:
        """The caller's own list, else its team's, else everybody's: the first counts, they are not added up."""
        if caller.name in self._lists and not caller.name.startswith(_TEAM):
            return self._lists[caller.name]
        return self._lists.get(f"{_TEAM}{caller.team}", self._rest) if caller.team else self._rest


def _visible(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    exact = frozenset(pattern for pattern in patterns if not pattern.endswith("*"))
    beginnings = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    return lambda model: model in exact or model.startswith(beginnings)
