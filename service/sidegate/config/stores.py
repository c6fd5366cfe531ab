"""Checks of the stores: their URLs are read by who will use them, so that a config that is fine can be served."""

from __future__ import annotations

from collections.abc import Iterator

from sidegate.errors import ConfigError
from sidegate.ledger.opening import database_of
from sidegate.settings import Settings
from sidegate.shared.address import check_url, connect


def store_mistakes(settings: Settings) -> Iterator[tuple[str, str]]:
    """Each with its place. Nothing is opened or reached."""
    yield from _ledger(settings)
    yield from _counters(settings.counters.url)
    if settings.workers > 1 and not settings.ledger.url:
        yield "ledger.url", "is needed with several workers: each would know its own calls only"
    if settings.jobs is not None and not settings.ledger.url:
        yield "jobs", "are kept in the ledger's database, and there is none: set ledger.url"


def _counters(url: str) -> Iterator[tuple[str, str]]:
    try:
        if url:
            check_url(url)
            _ = connect(url)
    except ValueError as error:
        yield "counters.url", str(error)
    except ConfigError as error:
        yield error.place, error.problem


def _ledger(settings: Settings) -> Iterator[tuple[str, str]]:
    ledger = settings.ledger
    scheme, colon, rest = ledger.url.partition("://")
    file = scheme == "sqlite" and rest.startswith("/") and len(rest) > 1
    server = scheme in ("postgresql", "postgres") and bool(colon)
    if ledger.url and not file and not server:
        yield "ledger.url", "expected `sqlite:///` and a path, `postgresql://...`, or nothing"
        return
    try:
        if ledger.url:
            database_of(ledger.url)
    except ConfigError as error:
        yield error.place, error.problem
    if ledger.url and ledger.on_start_failure == "wait" and not server:
        yield "ledger.on_start_failure", "`wait` is for PostgreSQL: a file is there or is not"
