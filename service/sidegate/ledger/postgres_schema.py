"""The schema of a PostgreSQL ledger: which version it is, and whether it is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidegate.ledger.database import Unusable
from sidegate.ledger.schema import VERSION

if TYPE_CHECKING:
    from psycopg import Connection

# Of the first schema in search_path, where tables are made; what extensions brought is nobody's.
_FOUND = """SELECT current_schema(),
    to_regclass(quote_ident(current_schema()) || '.sidegate_schema') IS NOT NULL,
    (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(current_schema()))
        AND relkind IN ('r', 'p', 'v', 'm', 'f')
        AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e'))"""


def version(connection: Connection[tuple[Any, ...]], place: str) -> int:
    """How many steps are done; 0 where nothing is there. Raises `Unusable` where something else is."""
    row = connection.execute(_FOUND).fetchone()
    assert row is not None
    schema, ours, tables = row
    if schema is None:
        raise Unusable(f"{place}: no schema of its search_path exists: CREATE SCHEMA, then sidegate migrate")
    if not ours and tables:
        raise Unusable(
            f'{place}: its schema "{schema}" holds another program\'s tables; the ledger wants a database of its own, '
            "or a schema: ?options=-csearch_path%3DNAME"
        )
    if not ours:
        return 0
    row = connection.execute("SELECT coalesce(max(version), 0) FROM sidegate_schema").fetchone()
    assert row is not None
    if row[0] > VERSION:
        raise Unusable(f"{place} was written by a newer Sidegate: its schema is {row[0]}, this one knows {VERSION}")
    return int(row[0])


def check(connection: Connection[tuple[Any, ...]], place: str) -> None:
    """Raises `Unusable` where the schema is not of this version."""
    found = version(connection, place)
    if found < VERSION:
        raise Unusable(f"{place} {f'has schema {found} of {VERSION}' if found else 'is empty'}: run sidegate migrate")
