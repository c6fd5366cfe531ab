"""A start loads what its config uses: what else is shipped is neither read nor kept in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sidegate

START = """
import asyncio, json, sys
from pathlib import Path
from sidegate.config import read_config
from sidegate.contract.host import SystemClock
from sidegate.gateway import Gateway
from sidegate.telemetry.logs import JsonLog

async def main() -> None:
    gateway = Gateway(read_config(Path(sys.argv[1]), {}), JsonLog(open("/dev/null", "wb"), SystemClock()))
    await gateway.start()
    print(json.dumps(sorted(sys.modules)))
    await gateway.stop()

asyncio.run(main())
"""

PLAIN: dict[str, Any] = {
    "listen": {"port": 0},
    "admin": {"port": 0},
    "providers": {"d": {"dialect": "demo"}},
    "models": {"d": {"provider": "d"}},
    "pipelines": {"p": {"plugins": [{"use": "log"}]}},
}
OPTIONAL = ("redis", "psycopg", "opentelemetry", "jsonschema", "joserfc", "cryptography", "genai_prices")
"""Packages that are needed for something that may be left out."""

PARTS = ("jobs", "realtime", "conversations", "streams", "workers", "ledger.postgres", "ledger.sqlite_journal")
"""Of Sidegate's own."""


def loaded(directory: Path, config: dict[str, Any]) -> set[str]:
    path = directory / "c.json"
    path.write_text(json.dumps({**config, "state": str(directory)}))
    done = subprocess.run(
        [sys.executable, "-c", START, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def parts(modules: set[str]) -> set[str]:
    return {part for part in PARTS if any(name.startswith(f"sidegate.{part}") for name in modules)}


def plugins(modules: set[str]) -> set[str]:
    own = {name.removeprefix("sidegate_plugins.") for name in modules if name.startswith("sidegate_plugins.")}
    return {name for name in own if not name.startswith("_")}


def test_there_are_such_parts() -> None:
    root = Path(sidegate.__file__).parent
    shipped = {".".join(("sidegate", *file.relative_to(root).with_suffix("").parts)) for file in root.rglob("*.py")}
    assert parts(shipped) == set(PARTS)


def test_what_the_config_does_not_use_is_not_loaded(tmp_path: Path) -> None:
    modules = loaded(tmp_path, {**PLAIN, "ledger": {"url": ""}})
    assert modules & set(OPTIONAL) == set()
    assert parts(modules) == set()
    assert plugins(modules) == {"log"}


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"jobs": {}}, "jobs"),
        ({"routes": [{"name": "r", "pipeline": "p", "resumable": True}]}, "streams"),
        ({}, "ledger.sqlite_journal"),
    ],
    ids=["jobs", "streams", "sqlite"],
)
def test_what_it_uses_is(tmp_path: Path, more: dict[str, Any], part: str) -> None:
    assert part in parts(loaded(tmp_path, {**PLAIN, **more}))
