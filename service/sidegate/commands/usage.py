"""`sidegate usage`: who used what and what it cost, from the ledger. A gateway may run meanwhile, or none."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import msgspec

from sidegate.commands.usage_table import lines
from sidegate.config import read_config
from sidegate.errors import BadRequest, ConfigError
from sidegate.ledger.database import PLACE, Interrupted, StoreError, is_postgres
from sidegate.ledger.report import Report
from sidegate.ledger.report_query import Query, read_query
from sidegate.ledger.report_text import as_csv, as_json
from sidegate.ledger.reporter import PATIENCE_SECONDS, report_from
from sidegate.ledger.sqlite_database import sqlite_path

WIDTH = 100
"""Columns of the table where the output is no terminal."""


def run(path: Path, parameters: Mapping[str, Sequence[str]], form: str) -> int:
    """Print the report as `table`, `csv` or `json`. Raises `ConfigError` where the question or the ledger is wrong."""
    url, place = _ledger(path)
    try:
        query = read_query(parameters, datetime.now(UTC))
    except BadRequest as error:
        raise ConfigError(f"--{error.param}", error.message) from error
    _print(_report(url, place, query), form)
    return 0


def _ledger(path: Path) -> tuple[str, str]:
    """The ledger the config names, and where that is; everything else of the config has to be right, too."""
    url = read_config(path, os.environ).settings.ledger.url
    if not url:
        raise ConfigError(PLACE, "is empty, so nothing is on record")
    if is_postgres(url):
        return url, ""
    file = sqlite_path(url)
    if not file.exists():
        raise ConfigError(PLACE, f"{file} is not there: no gateway has recorded a call yet")
    return url, f"{file} cannot be read: "


def _report(url: str, place: str, query: Query) -> Report:
    deadline = monotonic() + PATIENCE_SECONDS
    try:
        return report_from(url, query, lambda: monotonic() > deadline)
    except Interrupted as error:
        if monotonic() > deadline:
            raise ConfigError("", f"the report takes longer than {PATIENCE_SECONDS:g} s: ask for less time") from error
        raise KeyboardInterrupt from error
    except StoreError as error:
        raise ConfigError(PLACE, f"{place}{error}") from error


def _print(report: Report, form: str) -> None:
    if form == "table":
        encoding = sys.stdout.encoding or "utf-8"
        text = "\n".join(lines(report, shutil.get_terminal_size((WIDTH, 24)).columns))
        print(text.encode(encoding, "replace").decode(encoding))
        return
    # For programs: UTF-8, whatever the terminal knows.
    data = as_csv(report).encode() if form == "csv" else msgspec.json.format(as_json(report), indent=2) + b"\n"
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    if report.truncated:
        print(f"only the first {len(report.rows):,} rows: ask in fewer parts", file=sys.stderr)
