"""Frame: the stretch of one call that belongs to one plugin. For the core; a plugin never meets it."""

from __future__ import annotations

from typing import Protocol


class Frame(Protocol):
    name: str
    watches_only: bool
    since: float
    """Since when the plugin's own code runs, monotonic seconds; 0 while it waits for what is further in."""

    @property
    def observed(self) -> Observed | None: ...


class Observed(Protocol):
    def __call__(self, error: Exception) -> None: ...
