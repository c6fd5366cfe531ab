"""Bandit finds nothing but what is explained here, place by place: a new finding fails until it is mended or explained.

B101 is left out: asserts tell the type checker what the code knows, and nothing rests on them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.tree import ROOT

SQL = "Statements are put together from names that stand in the code; what comes from outside is a parameter."
CHANCE = "For pauses, weights and ids that need be unique: no secret hangs on it."
PIPE = "What is read was written by the process that made this one, on a socket that nobody else has."

EXPLAINED: Mapping[tuple[str, str], str] = {
    **{
        ("B608", f"service/sidegate/{name}.py"): SQL
        for name in (
            "jobs/sql_ask",
            "jobs/sql_work",
            "keys/sql",
            "ledger/money",
            "ledger/postgres_rows",
            "ledger/reading",
            "ledger/reconcile",
            "ledger/records",
            "ledger/report",
            "ledger/sqlite_rows",
            "responses/sql",
        )
    },
    **{
        ("B311", name): CHANCE
        for name in (
            "plugins/sidegate_plugins/_trace_context.py",
            "service/sidegate/ground.py",
            "service/sidegate/upstream/choice.py",
            "service/sidegate/upstream/demo.py",
            "service/sidegate/upstream/retry.py",
        )
    },
    ("B301", "service/sidegate/workers/lifeline.py"): PIPE,
    ("B403", "service/sidegate/workers/lifeline.py"): PIPE,
    ("B104", "service/sidegate/config/checks.py"): "A listener on all addresses is looked for, to refuse it.",
    ("B104", "service/sidegate/commands/explain_call.py"): "It is called by another name there, and not bound.",
    ("B105", "service/sidegate/testing/running.py"): "`tokens_per_second` and `first_token` are numbers.",
    ("B112", "plugins/sidegate_plugins/_jwk.py"): "A key of a set that cannot be read is no key; the others count.",
}


def findings(*words: str) -> set[tuple[str, str]]:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("bandit")), "--quiet", "--format", "json", "--skip", "B101", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    found = json.loads(done.stdout)
    assert found["errors"] == []
    return {(each["test_id"], each["filename"]) for each in found["results"]}


def test_every_finding_is_mended_or_explained() -> None:
    found = findings("--recursive", "service", "plugins")
    assert found - set(EXPLAINED) == set()
    assert set(EXPLAINED) - found == set(), "it is mended: take it from the table"


def test_what_is_not_safe_is_found(tmp_path: Path) -> None:
    unsafe = tmp_path / "unsafe.py"
    unsafe.write_text("import subprocess\nsubprocess.run('ls ' + input(), shell=True)\n")
    assert {test for test, _ in findings(str(unsafe))} == {"B404", "B602"}
