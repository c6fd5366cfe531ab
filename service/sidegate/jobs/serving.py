"""Serving: the config in force, as far as jobs ask it. A reload puts another in its place."""

from __future__ import annotations

from typing import Protocol

from sidegate.contract.plugin import Handler
from sidegate.settings import Settings
from sidegate.upstream.choice import Catalogue


class Serving(Protocol):
    """What a job is begun with, and looked at by when it is accepted."""

    settings: Settings
    catalogue: Catalogue

    def known(self, pipeline: str) -> Handler:
        """The pipeline of a name, for calls whose caller is known. Raises `KeyError`."""
        ...
