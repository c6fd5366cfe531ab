"""Fixtures of all tests, and the rule that a missing part is no silent skip in continuous integration."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


@pytest.fixture(scope="session")
def acme_installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the example of a plugin was really installed, by pip, as its users would."""
    source = tmp_path_factory.mktemp("source") / "acme-shout"
    shutil.copytree(Path(__file__).parent.parent / "examples" / "acme-shout", source)
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    command = [*pip, "--no-build-isolation", "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def acme_shout(monkeypatch: pytest.MonkeyPatch, acme_installed: Path) -> None:
    """The installed example, on the path of this test."""
    monkeypatch.syspath_prepend(str(acme_installed))
