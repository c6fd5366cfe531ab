"""A connection of psycopg that waits no longer than it is told."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from psycopg import Connection, waiting

INTERVAL_SECONDS = 0.05
"""Between two looks at whether to go on waiting."""


class BoundedConnection(Connection[tuple[Any, ...]]):
    """`bounded` stands between the driver and its waiting."""

    bounded: Callable[[Generator[Any, Any, Any]], Generator[Any, Any, Any]] | None = None

    def wait(self, gen: Any, interval: float = INTERVAL_SECONDS, timeout: float | None = None) -> Any:
        """Whatever is waited for. Raises `OperationalError` after the bound, `QueryCanceled` where it is given up."""
        steps = gen if self.bounded is None else self.bounded(gen)
        return waiting.wait(steps, self.pgconn.socket, interval=INTERVAL_SECONDS)
