"""Fixtures of all tests, and the rule that a missing part is no silent skip in continuous integration."""

from __future__ import annotations

import os
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the rounds that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: --long"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI a skip is a failure, but for recordings a clone does not have and rounds nobody asked for."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    allowed = ("takes minutes: --long", "recorded provider traffic")
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(word in reason for word in allowed):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI: {reason}"
    return report  # type: ignore[return-value]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that keeps nothing between requests but connections."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


@pytest.fixture
def acme_shout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The example of a plugin as after `pip install`: it can be imported, and its entry points are on record."""
    example = Path(__file__).parent.parent / "examples" / "acme-shout"
    project = tomllib.loads((example / "pyproject.toml").read_text())["project"]
    record = tmp_path / f"acme_shout-{project['version']}.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-shout\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n{name} = {value}\n"
        for group, points in project["entry-points"].items()
        for name, value in points.items()
    ]
    (record / "entry_points.txt").write_text("".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(example / "src"))
