"""Reading one call back from the ledger, on either store."""

from __future__ import annotations

from typing import Any

import msgspec

from sidegate.ledger.database import Database, Row
from sidegate.ledger.rows import AttemptRow, CallRow, Settled

_CALL = f"SELECT {', '.join(CallRow.__struct_fields__)} FROM calls WHERE id = ? AND state <> 'reserved'"
_ATTEMPTS = f"SELECT {', '.join(AttemptRow.__struct_fields__)} FROM attempts WHERE call_id = ? ORDER BY number"


def read(database: Database, id: str) -> Settled | None:
    """One call that is over, with its attempts, as of one moment."""
    with database.transaction(write=False):
        found = database.execute(_CALL, (id,)).fetchone()
        attempts = database.execute(_ATTEMPTS, (id,)).fetchall() if found else []
    if found is None:
        return None
    return call_row(found), tuple(_row(AttemptRow, attempt) for attempt in attempts)


def call_row(columns: Row) -> CallRow:
    """The fields of a call, in their order, as a database gives them."""
    row: CallRow = _row(CallRow, columns)
    return row


def _row(kind: type[CallRow | AttemptRow], columns: Row) -> Any:
    fields = dict(zip(kind.__struct_fields__, columns, strict=True))
    if "tags" in fields:
        fields["tags"] = msgspec.json.decode(fields["tags"])
    return msgspec.convert(fields, kind, strict=False)
