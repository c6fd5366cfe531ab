"""The counts of the benchmark: read, kept and judged rightly. Nothing is timed here, and nothing is counted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench import kept
from bench.callgrind import Callgrind, read_totals
from bench.counting import parse
from bench.counts import SCENARIOS, ratios
from bench.cputime import read_run_time
from bench.kept import TOLERANCE, Kept, Verdict
from bench.load import Line
from bench.lockstep import Script
from bench.replies import Incomplete
from bench.servers import GATEWAY, RELAY
from bench.traffic import Shape

DUMP = b"""# callgrind format
version: 1
creator: callgrind-3.19.0
pid: 24910
part: 1

desc: Trigger: Monitor command
events: Ir
summary: 1234567

fn=(1) main
12 1234567
totals: 1234567
"""


def test_a_dump_says_how_many_instructions() -> None:
    assert read_totals(DUMP) == 1234567
    assert read_totals(DUMP + DUMP.replace(b"1234567", b"3")) == 1234570


def test_a_dump_that_broke_off_is_none() -> None:
    with pytest.raises(ValueError, match="no totals"):
        read_totals(DUMP[: DUMP.index(b"totals")])


def test_a_server_is_started_uncounted(tmp_path: Path) -> None:
    words = Callgrind(tmp_path).command(["server", "--port", "1"])
    assert words[0] == "valgrind"
    assert "--instr-atstart=no" in words
    assert words[-3:] == ["server", "--port", "1"]


def test_cpu_time_is_the_first_of_the_schedulers_numbers() -> None:
    assert read_run_time("183772901 4421 77\n") == 183772901


def test_ratios_are_to_the_floor() -> None:
    assert ratios({RELAY: {"a": 2.0, "b": 0.0}, GATEWAY: {"a": 5.0, "b": 1.0}}, RELAY) == {GATEWAY: {"a": 2.5}}


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        ({"a": 100.0, "b": 50.0}, Verdict.SAME),
        ({"a": 100.0 * (1 + TOLERANCE * 0.9), "b": 50.0}, Verdict.SAME),
        ({"a": 100.0 * (1 + TOLERANCE * 1.1), "b": 50.0}, Verdict.WORSE),
        ({"a": 90.0, "b": 50.0}, Verdict.BETTER),
        ({"a": 90.0, "b": 60.0}, Verdict.WORSE),
        ({"a": 100.0, "c": 1.0}, Verdict.UNKNOWN),
        ({"a": 110.0, "c": 1.0}, Verdict.WORSE),
        ({}, Verdict.UNKNOWN),
    ],
)
def test_the_worst_change_is_the_verdict(now: dict[str, float], verdict: Verdict) -> None:
    found = kept.changes({GATEWAY: {"a": 100.0, "b": 50.0}}, {GATEWAY: now})
    assert kept.judge(found, TOLERANCE) is verdict


def test_the_relay_judges_nobody() -> None:
    counts = {RELAY: {"a": 100.0}, GATEWAY: {"a": 100.0}}
    found = kept.changes(counts, {RELAY: {"a": 200.0}, GATEWAY: {"a": 100.0}})
    assert kept.judge(found, TOLERANCE) is Verdict.SAME


def test_only_what_is_worse_or_unknown_is_a_failure() -> None:
    assert {verdict: verdict.code for verdict in Verdict} == {
        Verdict.SAME: 0,
        Verdict.BETTER: 0,
        Verdict.WORSE: 1,
        Verdict.UNKNOWN: 2,
    }


def test_other_versions_are_named() -> None:
    then, now = {"python": "3.11.7", "uvloop": "0.23.0"}, {"python": "3.12.1", "uvloop": "0.23.0", "yarl": "1.2"}
    assert kept.differing(then, now) == ["python: 3.11.7 -> 3.12.1", "yarl: none -> 1.2"]
    assert kept.differing(then, then) == []


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "counts.json"
    assert kept.read(file) is None
    written = Kept({"python": "3.11.7"}, {GATEWAY: {"buffered": 2_000_000.0}}, {GATEWAY: {"buffered": 2.5}})
    kept.write(written, file)
    assert kept.read(file) == written


def test_what_the_repository_keeps_is_whole() -> None:
    found = kept.read()
    assert found is not None
    for server in (RELAY, GATEWAY):
        assert set(found.counts[server]) == {scenario.key for scenario in SCENARIOS}
    assert {"python", "valgrind", "aiohttp", "uvloop"} <= found.versions.keys()


def test_the_table_of_counts_shows_ratio_and_change() -> None:
    counts = {RELAY: {"buffered": 500.0}, GATEWAY: {"buffered": 1000.0}}
    shown = kept.render(counts, {GATEWAY: {"buffered": 800.0}}, SCENARIOS[:1], "instructions")
    relay, own = shown.splitlines()[1:]
    assert SCENARIOS[0].label in relay
    assert own.split() == [GATEWAY, "1,000", "2.00x", "+25.0%"]


def test_part_of_what_is_kept_is_not_written_over_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--keep", "--scenario", "buffered"])
    assert "kept whole" in capsys.readouterr().err


# --- lock-step --------------------------------------------------------------------------------------------------------


def directly(script: Script) -> Line:
    """The provider itself in the place of a server under test."""
    return Line(int(script.provider.rpartition(":")[2]))


async def test_calls_in_lock_step_are_whole() -> None:
    async with Script() as script:
        await script.connect(directly(script))
        await script.buffered()
        await script.streamed(Shape(10))
        await script.streamed(Shape(3, 1))


async def test_a_piece_is_sent_only_when_it_is_asked_for() -> None:
    shape = Shape(40)
    async with Script() as script:
        await script.connect(directly(script))
        stream = await script.begin(shape)
        left = stream.left
        await asyncio.sleep(0.05)
        assert stream.left == left
        await script.step(stream, 2)
        assert stream.left == left - 2
        await script.end(stream, shape)


async def test_a_server_that_leaves_in_lock_step_is_told_at_once() -> None:
    async def leaves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(leaves, "127.0.0.1", 0)
    async with server, Script() as script:
        await script.connect(Line(server.sockets[0].getsockname()[1]))
        with pytest.raises(Incomplete, match="closed after 0 bytes"):
            await script.buffered()
