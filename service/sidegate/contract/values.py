"""Values: bytes that replicas share for a while, by name. A copy that may be gone at any moment, never the only one."""

from __future__ import annotations

from typing import Protocol


class Values(Protocol):
    """In the store of `counters.url`; `host.shared` says whether there is one. Look at what it gives as at any input:
    others write there too."""

    async def get(self, key: str) -> bytes | None:
        """What was put there. `None` where nothing is, or the store does not answer in time. Never raises for that."""
        ...

    def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep it for so long. Never waits and never fails; it may be lost on its way."""
        ...


class NoValues:
    """Where the config names no store: keeps nothing."""

    async def get(self, key: str) -> bytes | None:
        return None

    def put(self, key: str, value: bytes, seconds: float) -> None:
        """Lost."""
