"""Reports for programs: JSON and CSV. Money is USD as exact decimal text, times are seconds, unknown is null."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from decimal import Context, Decimal
from io import StringIO
from typing import Any

import msgspec

from sidegate.ledger.report import Report, Sums

_EXACT = Context(prec=60)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet take text for a formula (OWASP, CSV injection), in full width too."""


def usd(nano: int) -> Decimal:
    """Nano-USD as USD, with nine decimals."""
    return Decimal(nano).scaleb(-9, _EXACT)


def measures(sums: Sums) -> dict[str, Any]:
    """As told, in the order of columns."""
    return {
        "calls": sums.calls,
        "errors": sums.errors,
        "input_tokens": sums.input_tokens,
        "output_tokens": sums.output_tokens,
        "cache_read_tokens": sums.cache_read_tokens,
        "cache_write_tokens": sums.cache_write_tokens,
        "reasoning_tokens": sums.reasoning_tokens,
        "cost_usd": None if sums.cost_nano_usd is None else f"{usd(sums.cost_nano_usd):f}",
        "cost_unknown": sums.cost_unknown,
        "tokens_unknown": sums.tokens_unknown,
        "estimated": sums.estimated,
        "duration": sums.duration,
        "first_token": sums.first_token,
    }


def as_json(report: Report) -> bytes:
    """The report as one object."""
    query = report.query
    body = {
        "object": "usage",
        "by": query.by,
        "since": query.since.isoformat(),
        "until": query.until.isoformat(),
        "timezone": query.timezone,
        "where": [{"dimension": name, "value": value} for name, value in query.where],
        "data": [{**dict(zip(query.by, key, strict=True)), **measures(sums)} for key, sums in report.rows],
        "totals": measures(report.totals),
        "truncated": report.truncated,
    }
    return msgspec.json.encode(body)


def as_csv(report: Report) -> str:
    """The rows with a head, and no totals. RFC 4180; no text in it is a formula to a spreadsheet."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*report.query.by, *measures(report.totals)])
    for key, sums in report.rows:
        writer.writerow([*_harmless(key), *measures(sums).values()])
    return text.getvalue()


def _harmless(key: Iterable[str | None]) -> list[str]:
    return [f"'{text}" if text.startswith(_FORMULA) else text for text in (part or "" for part in key)]
