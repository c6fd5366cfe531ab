"""Placeholders: SQL with `?` and `:name`, as SQLite takes it, becomes what psycopg takes: `%s` and `%(name)s`."""

from __future__ import annotations

import re
from functools import lru_cache

# What is quoted, and comments, stand as they are; `::` is PostgreSQL's cast.
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|::|:([A-Za-z_][A-Za-z0-9_]*)|\?|%""")


@lru_cache(maxsize=512)
def translated(sql: str) -> str:
    """The same statement for psycopg, remembered: statements are constants, or made of a few parts."""
    return _TOKEN.sub(_replaced, sql)


def _replaced(found: re.Match[str]) -> str:
    if (name := found[1]) is not None:
        return f"%({name})s"
    return "%s" if found[0] == "?" else found[0].replace("%", "%%")
