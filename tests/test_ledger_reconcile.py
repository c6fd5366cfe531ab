"""The command `sidegate ledger reconcile`: what it lists, what it answers, and what it refuses in one line."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sidegate.cli import main
from sidegate.testing import demo_config
from tests.plugins.calls import HandClock
from tests.stores import Store
from tests.test_reserve import claim, end, money, open_at, opened


@pytest.fixture
def config(tmp_path: Path, store: Store) -> Path:
    path = tmp_path / "config.json"
    path.write_bytes(msgspec.json.encode(demo_config(ledger={"url": store.url})))
    return path


async def left_open(store: Store) -> None:
    """A call whose cost nobody knows, and one that is settled."""
    async with open_at(store, HandClock()) as ledger:
        for name, cost in (("unknown", None), ("settled", 5)):
            call = opened(name)
            await ledger.reserve(call, [claim(40)])
            end(ledger, call, cost)


def run(config: Path, *options: str) -> int:
    return main(["ledger", "reconcile", str(config), *options])


async def test_what_is_open_is_a_line_with_what_is_held(
    store: Store, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await left_open(store)
    assert run(config) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["CALL", "STATE", "WHY", "STARTED", "CALLER", "MODEL", "PROVIDER", "HELD", "USD"]
    assert line.split()[0] == "unknown"
    assert line.split()[-1] == "0.000000040"
    assert run(config, "--json") == 0
    (call,) = msgspec.json.decode(capsys.readouterr().out)
    assert (call["id"], call["held_nano_usd"], call["caller"]) == ("unknown", 40, "ann")


@pytest.mark.parametrize(
    ("options", "spent"), [(("--settle", "unknown", "--cost", "0.000000033"), 38), (("--release", "unknown"), 5)]
)
async def test_an_answer_is_given_once(
    store: Store, config: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], spent: int
) -> None:
    await left_open(store)
    assert run(config, *options) == 0
    assert money(store) == (spent, 0, 0)
    assert run(config, *options) == 2
    assert "not among the unfinished" in capsys.readouterr().err
    assert run(config) == 0
    assert capsys.readouterr().out == "nothing to reconcile: every call is settled\n"
    assert money(store) == (spent, 0, 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--settle", "a"), "belong together"),
        (("--cost", "1"), "belong together"),
        (("--release", "a", "--cost", "1"), "belong together"),
        (("--settle", "a", "--cost", "much"), "not a number"),
        (("--settle", "a", "--cost", "1e999999"), "not a number"),
        (("--settle", "a", "--cost", "-1"), "must be 0 to"),
        (("--settle", "a", "--cost", "1e-10"), "must be 0 to"),
        (("--settle", "a", "--cost", "NaN"), "must be 0 to"),
        (("--release", "a"), "not among the unfinished"),
    ],
)
def test_a_mistake_is_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert run(config, *options) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_without_a_ledger_there_is_nothing_to_reconcile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(msgspec.json.encode(demo_config(ledger={"url": ""})))
    assert run(path) == 2
    assert "nothing outlives the gateway" in capsys.readouterr().err


async def test_how_many_calls_wait_for_an_answer_is_known_from_the_start(store: Store, config: Path) -> None:
    await left_open(store)
    async with open_at(store, HandClock()) as ledger:
        assert ledger.unsettled == 1
    assert run(config, "--release", "unknown") == 0
    async with open_at(store, HandClock()) as ledger:
        assert ledger.unsettled == 0
