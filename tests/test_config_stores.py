"""URLs of stores in a config: `check` finds what the start would find."""

from __future__ import annotations

from typing import Any

import pytest

from tests.test_config import config, mistakes, read

POSTGRESQL = (
    "ledger.url: is no PostgreSQL URL: expected postgresql://host:port/database?option=value, "
    "`user:password@` before the host"
)
SQLITE = "ledger.url: must be sqlite:///path/to/file.db, postgresql://host/database, or empty for no ledger"
NUMBER = "counters.url: the path is the number of a database, as in redis://host/2"
OPTION = "counters.url: has an option that the driver does not know"


@pytest.mark.parametrize(
    ("blocks", "line"),
    [
        ({"ledger": {"url": "postgresql://h:abc/d"}}, POSTGRESQL),
        ({"ledger": {"url": "postgresql://u:secret@word@h/d"}}, POSTGRESQL),
        ({"ledger": {"url": "sqlite:///a\0b"}}, SQLITE),
        ({"ledger": {"url": "sqlite:///:memory:"}}, SQLITE),
        ({"counters": {"url": "redis://h:port"}}, "counters.url: not a URL"),
        ({"counters": {"url": "redis://h/limits"}}, NUMBER),
        ({"counters": {"url": "redis://h/123456"}}, NUMBER),
        ({"counters": {"url": "redis://h?colour=red"}}, OPTION),
        ({"counters": {"url": "redis://:secret@h?db=limits"}}, OPTION),
    ],
)
def test_a_url_that_cannot_be_used_is_a_mistake_with_its_place(blocks: dict[str, Any], line: str) -> None:
    (found,) = mistakes(config(**blocks))
    assert found.startswith(line)
    assert "secret" not in found


@pytest.mark.parametrize(
    "blocks",
    [
        {"ledger": {"url": "postgresql://u:p%40ss@h:5432,h2:5433/d?sslmode=require"}},
        {"ledger": {"url": "postgres:///d?host=/run/postgresql"}},
        {"ledger": {"url": "sqlite:////var/lib/sidegate.db"}},
        {"counters": {"url": "valkeys://:p@h:6380/2?ssl_cert_reqs=none"}},
        {"counters": {"url": "unix:///run/redis.sock?db=3"}},
        {"counters": {"url": "redis://h/"}},
    ],
)
def test_a_url_that_can_be_used_is_none(blocks: dict[str, Any]) -> None:
    assert read(config(**blocks)).settings.providers
