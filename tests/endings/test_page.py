"""The page on streams names every ending, and the figures in it can be measured again."""

from __future__ import annotations

import os
import subprocess
import sys

from sidegate.errors import Ending
from tests.tree import ROOT

PAGE = (ROOT / "docs" / "streams.md").read_text()


def test_the_page_has_a_row_for_every_ending() -> None:
    rows = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")}
    assert {ending.value for ending in Ending} <= rows


def test_a_quick_run_of_the_abort_bench_prints_its_table() -> None:
    path = os.pathsep.join([str(ROOT / "service"), str(ROOT / "plugins")])
    done = subprocess.run(
        [sys.executable, "-m", "bench.aborts", "--quick"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert sum(line.startswith(("FIN", "RST")) for line in lines) == 8
    assert sum(line.startswith("failover") for line in lines) == 3
    assert "stands still" in lines[-1]
