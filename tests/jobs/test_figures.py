"""The figures of jobs can be taken: none is asserted, since this machine's are nobody else's."""

from __future__ import annotations

import subprocess
import sys

from tests.tree import ROOT


def test_the_benchmark_of_jobs_runs() -> None:
    command = [sys.executable, "-m", "bench.jobs", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("median") == 5
    assert done.stdout.count("/s run") == 2
