"""Schema: what the ledger's database holds, as numbered steps from nothing. Never changed, only added to.

Each step has its SQL for both stores side by side. In SQLite the number of the last one is `PRAGMA user_version`, in
PostgreSQL the greatest `version` of the table `sidegate_schema`. Times are UTC text of fixed width (`rows.stamp`);
PostgreSQL compares all text by its bytes, as SQLite does, so that it sorts by time in every locale.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Step(NamedTuple):
    """From the version before to this one."""

    what: str
    """What it brings, for those who apply it."""
    sqlite: tuple[str, ...]
    postgresql: tuple[str, ...]


_KINDS = ["input", "output", "cache_read", "cache_write", "reasoning", "audio_input", "audio_output"]
_TOKENS = """
    input_tokens INTEGER, output_tokens INTEGER, cache_read_tokens INTEGER, cache_write_tokens INTEGER,
    reasoning_tokens INTEGER, audio_input_tokens INTEGER, audio_output_tokens INTEGER,
    estimated INTEGER NOT NULL"""
_PG_TOKENS = ", ".join(f"{kind}_tokens BIGINT" for kind in _KINDS) + ", estimated BOOLEAN NOT NULL"
_T: Final = 'TEXT COLLATE "C"'

_CALLS = Step(
    "calls and attempts",
    sqlite=(
        f"""CREATE TABLE calls (
            id TEXT PRIMARY KEY, route TEXT NOT NULL, operation TEXT NOT NULL, dialect TEXT NOT NULL,
            delivery TEXT NOT NULL, caller TEXT NOT NULL, key_id TEXT, team TEXT, tags TEXT NOT NULL, end_user TEXT,
            model_asked TEXT NOT NULL, model_served TEXT, provider TEXT, status INTEGER NOT NULL, ending TEXT NOT NULL,
            error TEXT, plugin TEXT,{_TOKENS}, cost_nano_usd INTEGER, state TEXT NOT NULL, started_at TEXT NOT NULL,
            first_token REAL, duration REAL NOT NULL, settled_at TEXT) STRICT""",
        f"""CREATE TABLE attempts (
            call_id TEXT NOT NULL REFERENCES calls (id), number INTEGER NOT NULL, provider TEXT NOT NULL,
            target TEXT NOT NULL, model TEXT, provider_id TEXT, status INTEGER, ending TEXT NOT NULL, error TEXT,
            finish TEXT, committed INTEGER NOT NULL,{_TOKENS}, rates TEXT, cost_nano_usd INTEGER,
            started_at TEXT NOT NULL, first_token REAL, duration REAL NOT NULL,
            PRIMARY KEY (call_id, number)) STRICT, WITHOUT ROWID""",
        "CREATE INDEX calls_by_time ON calls (started_at)",
    ),
    postgresql=(
        f"""CREATE TABLE calls (
            id {_T} PRIMARY KEY, route {_T} NOT NULL, operation {_T} NOT NULL, dialect {_T} NOT NULL,
            delivery {_T} NOT NULL, caller {_T} NOT NULL, key_id {_T}, team {_T}, tags {_T} NOT NULL, end_user {_T},
            model_asked {_T} NOT NULL, model_served {_T}, provider {_T}, status INTEGER NOT NULL, ending {_T} NOT NULL,
            error {_T}, plugin {_T}, {_PG_TOKENS}, cost_nano_usd BIGINT, state {_T} NOT NULL, started_at {_T} NOT NULL,
            first_token DOUBLE PRECISION, duration DOUBLE PRECISION NOT NULL, settled_at {_T})""",
        # No foreign key, as SQLite enforces none: what writes attempts writes their call in the same transaction.
        f"""CREATE TABLE attempts (
            call_id {_T} NOT NULL, number INTEGER NOT NULL, provider {_T} NOT NULL,
            target {_T} NOT NULL, model {_T}, provider_id {_T}, status INTEGER, ending {_T} NOT NULL, error {_T},
            finish {_T}, committed BOOLEAN NOT NULL, {_PG_TOKENS}, rates {_T}, cost_nano_usd BIGINT,
            started_at {_T} NOT NULL, first_token DOUBLE PRECISION, duration DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (call_id, number))""",
        "CREATE INDEX calls_by_time ON calls (started_at)",
    ),
)

_MONEY = Step(
    "owners of what is open, budgets and what is held of them",
    sqlite=(
        "ALTER TABLE calls ADD COLUMN owner TEXT",
        "ALTER TABLE calls ADD COLUMN reconciled TEXT",
        "CREATE INDEX calls_unfinished ON calls (state, owner) WHERE state <> 'settled'",
        """CREATE TABLE owners (
            id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, beats INTEGER NOT NULL,
            seen_at TEXT NOT NULL) STRICT""",
        """CREATE TABLE budgets (
            budget TEXT NOT NULL, subject TEXT NOT NULL, period TEXT NOT NULL,
            spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0), held INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
            overshoot INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (budget, subject, period)) STRICT, WITHOUT ROWID""",
        """CREATE TABLE holds (
            call_id TEXT NOT NULL, budget TEXT NOT NULL, subject TEXT NOT NULL, period TEXT NOT NULL,
            amount INTEGER NOT NULL CHECK (amount >= 0),
            PRIMARY KEY (call_id, budget, subject, period)) STRICT, WITHOUT ROWID""",
    ),
    postgresql=(
        f"ALTER TABLE calls ADD COLUMN owner {_T}",
        f"ALTER TABLE calls ADD COLUMN reconciled {_T}",
        "CREATE INDEX calls_unfinished ON calls (state, owner) WHERE state <> 'settled'",
        f"""CREATE TABLE owners (
            id {_T} PRIMARY KEY, host {_T} NOT NULL, pid INTEGER NOT NULL, beats BIGINT NOT NULL,
            seen_at {_T} NOT NULL)""",
        # Half of each page stays free: a row that changes with every call is then changed in its page.
        f"""CREATE TABLE budgets (
            budget {_T} NOT NULL, subject {_T} NOT NULL, period {_T} NOT NULL,
            spent BIGINT NOT NULL DEFAULT 0 CHECK (spent >= 0), held BIGINT NOT NULL DEFAULT 0 CHECK (held >= 0),
            overshoot BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (budget, subject, period)) WITH (fillfactor = 50)""",
        f"""CREATE TABLE holds (
            call_id {_T} NOT NULL, budget {_T} NOT NULL, subject {_T} NOT NULL, period {_T} NOT NULL,
            amount BIGINT NOT NULL CHECK (amount >= 0), PRIMARY KEY (call_id, budget, subject, period))""",
    ),
)

_KEYS = Step(
    "keys that are issued",
    sqlite=(
        """CREATE TABLE api_keys (
            id TEXT PRIMARY KEY, digest TEXT NOT NULL UNIQUE, previous_digest TEXT, previous_until TEXT,
            name TEXT NOT NULL, owner TEXT, team TEXT, tags TEXT NOT NULL, names_end_users INTEGER NOT NULL,
            allowance TEXT, created_at TEXT NOT NULL, expires_at TEXT, revoked_at TEXT, changed_at TEXT NOT NULL)
            STRICT""",
        "CREATE INDEX api_keys_by_previous ON api_keys (previous_digest)",
        "CREATE INDEX api_keys_by_change ON api_keys (changed_at)",
    ),
    postgresql=(
        f"""CREATE TABLE api_keys (
            id {_T} PRIMARY KEY, digest {_T} NOT NULL UNIQUE, previous_digest {_T}, previous_until {_T},
            name {_T} NOT NULL, owner {_T}, team {_T}, tags {_T} NOT NULL, names_end_users BOOLEAN NOT NULL,
            allowance {_T}, created_at {_T} NOT NULL, expires_at {_T}, revoked_at {_T}, changed_at {_T} NOT NULL)""",
        "CREATE INDEX api_keys_by_previous ON api_keys (previous_digest)",
        "CREATE INDEX api_keys_by_change ON api_keys (changed_at)",
    ),
)

# How many days and hours there are is what PostgreSQL cannot guess, and plans reports by.
_TIMES = Step(
    "how calls spread over time, for reports",
    sqlite=(),
    postgresql=tuple(
        f"CREATE STATISTICS calls_{name} ON (substr(started_at, 1, {width})) FROM calls"
        for name, width in (("days", 10), ("hours", 13), ("minutes", 16))
    ),
)

STEPS: Final = (_CALLS, _MONEY, _KEYS, _TIMES)
"""A version is a number of steps that are done."""

VERSION: Final = len(STEPS)
