"""The console's modules that need no page, by Node."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.node.process import NODE
from tests.tree import SOURCES


def test_modules_do_what_they_say() -> None:
    if not NODE.exists():
        pytest.skip(f"{NODE}: scripts/test installs it where npm is")
    folder = (SOURCES["sidegate"] / "console").as_uri()
    done = subprocess.run(
        [str(NODE), "--no-warnings", "--test", str(Path(__file__).with_name("modules.mjs"))],
        env={**os.environ, "SIDEGATE_CONSOLE": folder, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
