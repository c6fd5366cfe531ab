"""Journal: how the writer's work gets into a store. One for each kind of store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sidegate.ledger.database import Database
from sidegate.ledger.lease import Lease
from sidegate.ledger.work import Work


class Journal(Protocol):
    """For one thread. It connects when it is first used, and again after its connection was lost."""

    @property
    def database(self) -> Database:
        """What it writes to."""
        ...

    def write(self, batch: Sequence[Work], lease: Lease, beats: bool) -> None:
        """All of it, in this order and in one transaction; with a beat of the lease where `beats`.

        Durable when it returns. Raises a `StoreError` else, and then it may have happened or not: it is called again
        with the same work, and what is there already stays as it is.
        """
        ...
