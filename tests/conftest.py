"""Fixtures of all tests, and the rule that a missing part is no silent skip in continuous integration."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.servers import proxy, redis
from tests.servers.postgres import Postgres, postgres
from tests.stores import KINDS, Store, prepared


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the rounds that take minutes")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: tests wait for servers, browsers and processes a third of their time."""
    return (os.cpu_count() or 1) + 1


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


@contextmanager
def _or_skip() -> Iterator[None]:
    """A server that the machine does not have is a skip with its name; in CI that is a failure, as all skips are."""
    try:
        yield
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A real PostgreSQL for all tests, on a spare port."""
    with _or_skip(), postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """The URL of an empty PostgreSQL database that is this test's own."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty ledger of each kind, so that what it is given to is tested on all of them."""
    sqlite = f"sqlite:///{tmp_path}/state/ledger.db"
    return prepared(request.param, sqlite if request.param == "sqlite" else request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session", params=redis.KINDS)
def redis_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A real Redis for all tests, on a spare port; and the same again with a Valkey where there is one."""
    with _or_skip(), redis.redis_server(request.param) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of an empty Redis that is this test's own."""
    redis.empty(redis_server)
    return redis_server


@pytest.fixture
async def fault_proxy() -> AsyncIterator[Callable[[str], Awaitable[proxy.FaultProxy]]]:
    """Put a proxy before a store: `broken = await fault_proxy(postgres_url)`, then use `broken.url`, and break it."""
    async with AsyncExitStack() as proxies:
        yield lambda url: proxies.enter_async_context(proxy.fault_proxy(url))
