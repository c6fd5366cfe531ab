"""`sidegate migrate`: bring the ledger's database to this version, or say what that would do."""

from __future__ import annotations

import os
from pathlib import Path

from sidegate.config import read_config
from sidegate.errors import ConfigError
from sidegate.ledger.database import PLACE, is_postgres
from sidegate.ledger.migrate import migrate, version_of
from sidegate.ledger.schema import STEPS, VERSION

BEHIND = 1
"""What `--check` gives where something is to be done."""


def run(path: Path, check: bool) -> int:
    """Apply what is missing; with `check` only say it. Raises `ConfigError` where that cannot be done."""
    url = read_config(path, os.environ).settings.ledger.url
    if not url:
        raise ConfigError(PLACE, "is empty, so there is nothing to migrate")
    before = version_of(url) if check else migrate(url)
    place = _place(url)
    if before == VERSION:
        print(f"{place}: schema {VERSION}, nothing to do")
        return 0
    print(f"{place}: schema {before}, {VERSION} is wanted" if check else f"{place}: schema {before} became {VERSION}")
    for number, step in enumerate(STEPS[before:], before + 1):
        print(f"  {number}  {step.what}")
    return BEHIND if check else 0


def _place(url: str) -> str:
    """Where it is, without a secret."""
    if not is_postgres(url):
        from sidegate.ledger.sqlite_database import sqlite_path

        return str(sqlite_path(url))
    from sidegate.ledger.postgres_url import parameters, place_of

    return place_of(parameters(url))
