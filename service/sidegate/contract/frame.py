"""Frame: the stretch of one call that belongs to one plugin. For the core; a plugin never meets it."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Frame(Protocol):
    since: float
    """Since when the plugin's own code runs, monotonic seconds; 0 while it waits for what is further in."""
    overdue: bool
    """Set by the core before it interrupts a plugin that takes too long."""
    forgotten: int
    """What the call had sent when a hold was left with a reply in it that was neither released nor dropped; or -1."""

    @property
    def name(self) -> str: ...
    @property
    def watches_only(self) -> bool: ...

    def reported(self, error: Exception | SystemExit) -> None:
        """The plugin failed: log and count it."""
        ...

    def pause(self) -> None:
        """The plugin's own time stands still."""
        ...

    def resume(self) -> None:
        """It counts again."""
        ...


class Standstill(Struct, frozen=True):
    """The clock of a plugin stands still inside it; nothing happens where there is none."""

    frame: Frame | None

    def __enter__(self) -> None:
        if self.frame is not None:
            self.frame.pause()

    def __exit__(self, *_: object) -> None:
        if self.frame is not None:
            self.frame.resume()
