"""What the benchmark publishes: plots, tables and the page are made of figures, rightly. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from bench import page, plots, publish, workers
from bench.callers import issue, secret
from bench.curve import Curve, Points, bends, told
from bench.figures import FULL
from bench.growth import CURVES
from bench.load import Line, Timed
from bench.peers import PEERS, installed
from bench.servers import GATEWAY, RELAY, Setting, gateway_config
from bench.steps import SHIPPED, Part, ladder, markdown, parts
from bench.traffic import SENT, Asked, Shape, read_request, request_body, sent_at, stream_events
from sidegate.contract.keys import key_digest
from sidegate.ledger.opening import open_database

SVG = "{http://www.w3.org/2000/svg}"
MEASURED: dict[str, Any] = {
    "machine": {"sidegate": "0.1.0", "python": "3.11.7", "cores": "2", "processor": "some", "system": "Linux"},
    "date": "November 2026",
    "table": {
        "sizes": msgspec.to_builtins(FULL),
        "servers": ["direct", RELAY, GATEWAY],
        "rounds": {"buffered_cpu": {RELAY: [8000.0, 9000.0], GATEWAY: [4250.0]}, "idle": {GATEWAY: [55.5]}},
    },
    "counts": {
        "counts": {
            name: {"buffered": count, "short": count, "streamed": count, "flat": count, "paced": count}
            for name, count in ((RELAY, 500.0), (GATEWAY, 1000.0))
        }
    },
    "parts": msgspec.to_builtins([Part("all", {"buffered": 4e6, "streamed": 5e6, "paced": 3e4}, {"buffered": 0.0})]),
    "growth": msgspec.to_builtins([Curve("keys", "Keys", "keys", lines={"one": [(1, 2.0), (10, 2.5)]})]),
    "workers": {"1 worker": {"cpu": 300.0, "calls": 3000.0, "redis": 0.0}},
}


def elements(svg: str, name: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    return list(root.iter(f"{SVG}{name}"))


# --- plots ------------------------------------------------------------------------------------------------------------


def test_a_plot_of_lines_is_svg_with_a_line_for_each() -> None:
    drawn = plots.lines("A < B & C", "keys", "calls", {"one": [(0, 1), (10, 2)], "two": [(0, 0.5), (10, 0.7)]})
    assert len(elements(drawn, "polyline")) == 2
    texts = [element.text for element in elements(drawn, "text")]
    assert "A < B & C" in texts
    assert {"one", "two"} <= set(texts)


def test_what_is_straight_is_drawn_straight() -> None:
    drawn = plots.lines("", "", "", {"one": [(0, 1), (5, 2), (10, 3)]})
    (x1, y1), (x2, y2), (x3, y3) = (
        tuple(map(float, point.split(","))) for point in elements(drawn, "polyline")[0].attrib["points"].split()
    )
    assert (y2 - y1) / (x2 - x1) == pytest.approx((y3 - y2) / (x3 - x2), abs=0.01)
    assert y1 > y3, "more is further up"


def test_nothing_is_drawn_outside() -> None:
    drawn = plots.lines("t", "a", "u", {"one": [(0, 0), (1_000_000, 12.7)], "two": [(0, 0.1), (10, 99)]})
    for circle in elements(drawn, "circle"):
        assert plots.LEFT <= float(circle.attrib["cx"]) <= plots.WIDTH - plots.RIGHT
        assert plots.TOP <= float(circle.attrib["cy"]) <= plots.HEIGHT - plots.BOTTOM


def test_bars_are_as_long_as_their_values() -> None:
    drawn = plots.bars("t", [("calls", {"relay": 100.0, "sidegate": 50.0})])
    relay, own = (float(rect.attrib["width"]) for rect in elements(drawn, "rect"))
    assert own == pytest.approx(relay / 2)


@pytest.mark.parametrize("most", [0.003, 1.0, 4.99, 20, 37, 1000, 8_000_000])
def test_ticks_are_few_and_reach_the_end(most: float) -> None:
    made = plots.ticks(most)
    assert made[0] == 0
    assert made[-2] < most <= made[-1] * 1.000001
    assert 3 <= len(made) <= 7


def test_numbers_at_an_axis_are_short() -> None:
    assert [plots.short(value) for value in (0, 0.5, 250, 8000, 1e6, 2.5e7)] == ["0", "0.5", "250", "8000", "1M", "25M"]


# --- growth -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "bent"),
    [
        ([(1, 2.0), (10, 2.01), (100, 2.02)], False),
        ([(1, 1.0), (10, 10.0), (100, 100.0)], False),
        ([(1, 1.0), (2, 4.0), (3, 9.0), (4, 16.0)], True),
        ([(1, 1.0), (2, 2.0), (3, 5.0)], True),
        ([(1, 5.0), (2, 4.0), (3, 3.0)], False),
        ([(1, 1.0), (2, 9.0)], False),
    ],
)
def test_a_curve_is_told_from_a_line(points: Points, bent: bool) -> None:
    assert bends(points) is bent
    assert ("BENDS" in told(Curve("k", "t", "a", lines={"one": points}))) is bent


def test_everything_that_may_grow_is_looked_at() -> None:
    assert {curve.__name__ for curve in CURVES} == {"plugins", "keys", "routes", "models", "requests", "replies"}


def test_keys_that_were_issued_by_the_thousand_are_found(tmp_path: Path) -> None:
    issue(tmp_path / "sidegate.db", 1000)
    database = open_database(f"sqlite:///{tmp_path / 'sidegate.db'}")
    found = database.execute("SELECT name FROM api_keys WHERE digest = ?", (key_digest(secret(999)),)).fetchall()
    database.close()
    assert [tuple(row) for row in found] == [("bench",)]


# --- parts ------------------------------------------------------------------------------------------------------------


def test_a_part_costs_what_it_adds() -> None:
    none, log = parts([("none", {"buffered": 10.0}), ("log", {"buffered": 12.5})])
    assert (none.added, log.added) == ({"buffered": 0.0}, {"buffered": 2.5})


def test_the_ladder_ends_with_the_whole_pipeline(tmp_path: Path) -> None:
    names = [name for name, _ in ladder()]
    assert names[2:] == list(SHIPPED)
    config = gateway_config(Setting(1, "http://127.0.0.1:2", tmp_path), "sg-key")
    ladder()[-1][1](config)
    assert [use["use"] for use in config["pipelines"]["main"]["plugins"]] == list(SHIPPED)
    ladder()[0][1](config)
    assert config["pipelines"]["main"]["plugins"] == []


def test_parts_are_told_in_instructions_and_time() -> None:
    made = parts([(name, {"buffered": x, "streamed": x, "paced": x}) for name, x in (("a", 2e6), ("b", 3e6))])
    assert "| b | +1,000,000 | +200 | +1,000,000 | +1,000,000 |" in markdown(made, 5000.0)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_only_what_stands_between_marks_is_written() -> None:
    text = "before\n<!-- bench: workers -->\nold\n<!-- /bench -->\nafter\n"
    made = page.write(text, MEASURED)
    assert made.startswith("before\n")
    assert made.endswith("<!-- /bench -->\nafter\n")
    assert "old" not in made
    assert "| 1 worker | 300 | 0 | 3,000 |" in made
    assert page.write(made, MEASURED) == made


def test_a_mark_that_nobody_knows_is_a_fault() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        page.write("<!-- bench: nonsense -->\n<!-- /bench -->", MEASURED)


def test_the_pages_table_has_medians_and_the_ratio() -> None:
    made = page.write("<!-- bench: table -->\n<!-- /bench -->", MEASURED)
    assert "| 8,500 | 4,250 | **0.50** | more |" in made


def test_every_section_says_so_where_nothing_was_measured() -> None:
    for name in set(page.SECTIONS) - {"machine"}:
        assert "Not measured yet." in page.write(f"<!-- bench: {name} -->\n<!-- /bench -->", {})


def test_the_page_is_what_was_measured() -> None:
    text, published = page.PAGE.read_text(), publish.read()
    assert set(page.marks(text)) == set(page.SECTIONS)
    assert page.write(text, published) == text, "run scripts/bench --publish --page"
    for name, drawn in page.plots(published).items():
        assert (page.FOLDER / name).read_text() == drawn, "run scripts/bench --publish --page"


def test_every_plot_is_shown() -> None:
    text = page.PAGE.read_text()
    for name in page.plots(publish.read()):
        assert f"({page.FOLDER.name}/{name})" in text


def test_workers_without_a_measurable_time_are_told_too() -> None:
    assert "| 1 worker | 0 | 0 | 10 |" in workers.markdown({"1 worker": {"cpu": 0.0, "redis": 0.0, "calls": 10.0}})


# --- traffic and peers ------------------------------------------------------------------------------------------------


def test_a_timed_token_says_when_it_was_sent_in_as_many_bytes() -> None:
    shape = Shape(2, 20, timed=True)
    asked = read_request(request_body(shape, stream=True))
    assert asked == Asked(shape, stream=True, usage=True)
    _, token, *_ = stream_events(asked)
    sent = sent_at(token, 12.25)
    assert len(sent) == len(token)
    assert [float(each) for each in SENT.findall(sent)] == [12.25]


async def test_a_timed_stream_keeps_how_long_each_token_took() -> None:
    stream = Timed()
    _, *tokens = stream_events(Asked(Shape(3, 20, timed=True), stream=True, usage=False))
    for token in tokens[:3]:
        stream.data_received(sent_at(token, 0.0))
    assert len(stream.took) == 3
    assert all(took > 0 for took in stream.took)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_told_where_to_listen_and_whom_to_ask(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{Path(program).name}")
    (found,) = installed([name])
    words: Sequence[str] = found.command(Setting(4711, "http://127.0.0.1:4712", tmp_path))
    told = " ".join(words) + "".join(path.read_text() for path in tmp_path.iterdir() if path.is_file())
    assert "4711" in told
    assert "127.0.0.1:4712" in told


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_that_is_not_installed_is_left_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    assert installed([name]) == []


def test_a_line_posts_any_body() -> None:
    head, _, body = Line(1, "sg-x").post(b'{"a":1}').partition(b"\r\n\r\n")
    assert b"Content-Length: 7" in head
    assert b"Authorization: Bearer sg-x" in head
    assert body == b'{"a":1}'
