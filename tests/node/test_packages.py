"""The clients for Node are pinned, and come from whatever registry a machine has."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.node.process import HERE

LOCKED: dict[str, Any] = json.loads((HERE / "package-lock.json").read_bytes())
WANTED: dict[str, str] = json.loads((HERE / "package.json").read_bytes())["devDependencies"]


def test_each_package_is_pinned_to_one_version() -> None:
    assert all(re.fullmatch(r"(npm:.+@)?\d+\.\d+\.\d+", version) for version in WANTED.values())
    assert LOCKED["packages"][""]["devDependencies"] == WANTED
    for name, version in WANTED.items():
        assert LOCKED["packages"][f"node_modules/{name}"]["version"] == version.rpartition("@")[2]


def test_the_lock_file_names_no_registry() -> None:
    packages = {name: package for name, package in LOCKED["packages"].items() if name}
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not [name for name, package in packages.items() if "resolved" in package]


def test_the_page_of_clients_has_the_versions_that_are_tested() -> None:
    page = (HERE.parents[1] / "docs" / "clients.md").read_text()
    rows = dict(re.findall(r"^\| (?:Node )?`([^`]+)` \| (\d+\.\d+\.\d+) \|", page, re.MULTILINE))
    assert len(rows) >= 8
    assert rows == {name: WANTED[name] for name in rows}
