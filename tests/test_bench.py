"""The benchmark runs: no figure is asserted, since this machine's are nobody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import table
from bench.figures import QUICK
from bench.replies import Incomplete, check_body, check_stream, unchunked
from bench.servers import DIRECT, GATEWAY, LEAN, RELAY
from bench.traffic import BUFFERED, Asked, Shape, read_request, reply_body, request_body, stream_events

ROOT = Path(__file__).parents[1]


def test_a_quick_run_prints_every_row(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    path = os.pathsep.join([str(ROOT / "service"), str(ROOT / "plugins")])
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--no-peers", "--json", str(figures)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for row in table.rows(QUICK):
        assert row.label in done.stdout
    medians = {key: figure["median"] for key, figure in json.loads(figures.read_bytes())["figures"].items()}
    for key in ("buffered_wall", "flat_wall", "first_one", "first_many", "token", "alone", "beside", "abort"):
        assert set(medians[key]) == {DIRECT, RELAY, LEAN, GATEWAY}
    for key in ("added_one", "added_many", "added_token", "paced_cpu", "idle", "slow", "crowd", "ready"):
        assert set(medians[key]) == {RELAY, LEAN, GATEWAY}


def test_the_mock_says_what_the_load_expects() -> None:
    shape = Shape(tokens=5, interval=3)
    asked = read_request(request_body(shape, stream=True))
    assert asked == Asked(shape, stream=True, usage=True)
    check_stream(b"".join(stream_events(asked)), shape)
    check_body(reply_body(shape), shape)


def test_a_whole_reply_is_about_a_kilobyte() -> None:
    assert 900 < len(reply_body(BUFFERED)) < 1200


@pytest.mark.parametrize("lost", ["a token", "the end"])
def test_a_stream_that_lacks_something_is_not_counted(lost: str) -> None:
    shape = Shape(tokens=5)
    events = stream_events(Asked(shape, stream=True, usage=False))
    del events[2 if lost == "a token" else -1]
    with pytest.raises(Incomplete):
        check_stream(b"".join(events), shape)


def test_a_body_that_is_no_completion_is_not_counted() -> None:
    for body in (b"", b"{}", b'{"error":{"message":"no"}}', reply_body(Shape(tokens=4))):
        with pytest.raises(Incomplete):
            check_body(body, Shape(tokens=5))


def test_chunks_are_put_together_and_wrong_ones_told() -> None:
    assert unchunked(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") == b"abcde"
    with pytest.raises(Incomplete):
        unchunked(b"3\r\nabcde\r\n0\r\n\r\n")


def test_ratios_are_of_medians_to_the_relay() -> None:
    rounds = {"buffered_cpu": {RELAY: [1.0, 2.0, 9.0], GATEWAY: [4.0, 3.0, 100.0]}}
    row = table.Row("buffered_cpu", "calls", "more")
    assert table.ratio(rounds, row, GATEWAY) == 2.0
    assert "2.00x" in table.render(rounds, [DIRECT, RELAY, GATEWAY], QUICK)
    assert table.ratio({}, row, GATEWAY) is None


def test_there_is_no_ratio_to_what_is_only_noise() -> None:
    row = table.Row("added", "added", "less", part_of="whole")
    for added, ratio in ((0.1, None), (4.0, 2.0)):
        rounds = {"whole": {DIRECT: [2.0]}, "added": {RELAY: [added], GATEWAY: [8.0]}}
        assert table.ratio(rounds, row, GATEWAY) == ratio
