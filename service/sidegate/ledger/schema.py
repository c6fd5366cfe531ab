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

# Times are text as everywhere, flags are integers in both, and what only one process reads whole is JSON in bytes.
_JOB_COLUMNS = """
    caller {t} NOT NULL, route {t} NOT NULL, operation {t} NOT NULL, dialect {t} NOT NULL, model {t} NOT NULL,
    streams INTEGER NOT NULL, urgency INTEGER NOT NULL, submission {b}, body {b}, again {t} UNIQUE, digest {t},
    state {t} NOT NULL, generation INTEGER NOT NULL, kills INTEGER NOT NULL, owner {t}, call_id {t},
    cancelling INTEGER NOT NULL, last INTEGER NOT NULL, size {n} NOT NULL, input_tokens {n}, output_tokens {n},
    estimated INTEGER NOT NULL, headers {b}, error {b}, status INTEGER, ending {t}, created_at {t} NOT NULL,
    run_after {t} NOT NULL, give_up_at {t} NOT NULL, started_at {t}, ended_at {t}, remove_at {t}"""
_RUN_COLUMNS = """
    job_id {t} NOT NULL, generation INTEGER NOT NULL, call_id {t} NOT NULL, owner {t} NOT NULL, started_at {t} NOT NULL,
    ended_at {t}, ending {t}, cost_nano_usd {n}, PRIMARY KEY (job_id, generation)"""
_EVENT_COLUMNS = """
    job_id {t} NOT NULL, generation INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, data {b} NOT NULL,
    PRIMARY KEY (job_id, generation, first)"""
_JOB_INDEXES = (
    "CREATE INDEX jobs_queued ON jobs (urgency, created_at, id) WHERE state = 'queued'",
    "CREATE INDEX jobs_running ON jobs (owner) WHERE state = 'running'",
    "CREATE INDEX jobs_by_caller ON jobs (caller, created_at, id)",
    "CREATE INDEX jobs_by_removal ON jobs (remove_at) WHERE remove_at IS NOT NULL",
)


def _job_tables(text: str, number: str, data: str, strict: str) -> tuple[str, ...]:
    kinds = {"t": text, "n": number, "b": data}
    return (
        f"CREATE TABLE jobs (id {text} PRIMARY KEY,{_JOB_COLUMNS.format(**kinds)}){strict}",
        f"CREATE TABLE job_runs ({_RUN_COLUMNS.format(**kinds)}){strict}",
        f"CREATE TABLE job_events ({_EVENT_COLUMNS.format(**kinds)}){strict}",
        f"CREATE TABLE job_tickets (digest {text} PRIMARY KEY, job_id {text} NOT NULL, until {text} NOT NULL){strict}",
        f"""CREATE TABLE job_owners (id {text} PRIMARY KEY, host {text} NOT NULL, pid INTEGER NOT NULL,
            beats {number} NOT NULL){strict}""",
        *_JOB_INDEXES,
    )


_JOBS = Step(
    "jobs, their runs and their events",
    sqlite=_job_tables("TEXT", "INTEGER", "BLOB", " STRICT"),
    postgresql=_job_tables(_T, "BIGINT", "BYTEA", ""),
)

_RESPONSES = Step(
    "whose the responses are that providers keep",
    sqlite=(
        """CREATE TABLE responses (
            id TEXT NOT NULL, provider TEXT NOT NULL, target TEXT NOT NULL, model TEXT NOT NULL, caller TEXT NOT NULL,
            call_id TEXT NOT NULL, credential TEXT NOT NULL, background INTEGER NOT NULL, kept_at TEXT NOT NULL,
            PRIMARY KEY (id, provider)) STRICT, WITHOUT ROWID""",
    ),
    postgresql=(
        f"""CREATE TABLE responses (
            id {_T} NOT NULL, provider {_T} NOT NULL, target {_T} NOT NULL, model {_T} NOT NULL, caller {_T} NOT NULL,
            call_id {_T} NOT NULL, credential {_T} NOT NULL, background BOOLEAN NOT NULL, kept_at {_T} NOT NULL,
            PRIMARY KEY (id, provider))""",
    ),
)

STEPS: Final = (_CALLS, _MONEY, _KEYS, _TIMES, _JOBS, _RESPONSES)
"""A version is a number of steps that are done."""

VERSION: Final = len(STEPS)
