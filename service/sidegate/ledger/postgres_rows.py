"""Rows to PostgreSQL: all of a batch by one statement, as JSON, which costs the gateway less than its columns would.

What is there already stays as it is, so each may be done twice: after a commit whose answer was lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from sidegate.ledger.rows import AttemptRow, CallRow, stamp

_CALL = ", ".join(CallRow.__struct_fields__)
_ATTEMPT = ", ".join(AttemptRow.__struct_fields__)


def _all_but(row: type[Struct], *keys: str) -> str:
    return ", ".join(f"{name} = excluded.{name}" for name in row.__struct_fields__ if name not in keys)


OPEN = f"""WITH opened AS (
        INSERT INTO calls ({_CALL}, owner)
        SELECT {_CALL}, %(owner)s FROM json_populate_recordset(NULL::calls, %(calls)s)
        ON CONFLICT (id) DO UPDATE SET provider = excluded.provider WHERE calls.state = 'reserved' RETURNING id)
    INSERT INTO attempts ({_ATTEMPT}) SELECT {_ATTEMPT} FROM json_populate_recordset(NULL::attempts, %(attempts)s)
    WHERE call_id IN (SELECT id FROM opened) ON CONFLICT DO NOTHING"""

# A call that was given up for dead while its process only stood still (a suspended machine) is settled after all.
# The settlement tells all attempts, so what was opened of them is written over.
SETTLE = f"""WITH taken AS (
        INSERT INTO calls ({_CALL}) SELECT {_CALL} FROM json_populate_recordset(NULL::calls, %(calls)s)
        ON CONFLICT (id) DO UPDATE SET {_all_but(CallRow, "id")}
        WHERE calls.state = 'reserved' OR (calls.state = 'unknown' AND calls.error = 'gateway_killed') RETURNING id)
    INSERT INTO attempts ({_ATTEMPT}) SELECT {_ATTEMPT} FROM json_populate_recordset(NULL::attempts, %(attempts)s)
    WHERE call_id IN (SELECT id FROM taken)
    ON CONFLICT (call_id, number) DO UPDATE SET {_all_but(AttemptRow, "call_id", "number")}"""


def as_json(rows: Iterable[Struct]) -> str:
    """For `json_populate_recordset`. Raises `ValueError` for what is no text."""
    return msgspec.json.encode([_fields(row) for row in rows]).decode()


def _fields(row: Struct) -> dict[str, Any]:
    fields = asdict(row)
    for name in ("started_at", "settled_at"):
        if isinstance(fields.get(name), datetime):
            fields[name] = stamp(fields[name])
    if "tags" in fields:
        fields["tags"] = msgspec.json.encode(fields["tags"]).decode()
    return fields
