"""Usage reports: exact sums, honest about the unknown, each caller its own, and harmless whatever a name contains."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any, TypeAlias
from unicodedata import east_asian_width
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidegate.cli import main
from sidegate.commands.usage_table import lines
from sidegate.contract import SystemClock
from sidegate.errors import BadRequest, SidegateError
from sidegate.ledger import asking as asking_module
from sidegate.ledger import report_file, sqlite_database
from sidegate.ledger.database import Database, Interrupted, Unavailable
from sidegate.ledger.opening import open_database
from sidegate.ledger.report import MAX_ROWS, Key, Report, Sums, run
from sidegate.ledger.report_query import COLUMNS, DIMENSIONS, Query, read_query
from sidegate.ledger.report_text import as_csv, as_json, usd
from sidegate.ledger.reporter import MAX_ASKED, Reporter, report_from
from sidegate.ledger.rows import CallRow
from sidegate.ledger.sqlite_database import SqliteDatabase
from sidegate.ledger.sqlite_file import open_file
from sidegate.ledger.sqlite_rows import settle
from sidegate.ledger.store import NullLedger
from tests.servers.postgres import Postgres
from tests.stores import KINDS, Store, empty, fill

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BERLIN = "Europe/Berlin"


def a_call(id: object, **given: object) -> CallRow:
    row = CallRow(
        id=str(id),
        route="main",
        operation="chat",
        dialect="openai.chat",
        delivery="stream",
        caller="ann",
        model_asked="gpt",
        status=200,
        ending="complete",
        input_tokens=10,
        output_tokens=5,
        cost_nano_usd=1,
        started_at=NOW - timedelta(hours=1),
        first_token=0.5,
        duration=2.0,
    )
    return replace(row, **given)


@pytest.fixture(scope="module", params=KINDS)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An open one of each kind, for all tests: each says what is on record."""

    def another() -> AbstractContextManager[str]:
        server: Postgres = request.getfixturevalue("postgres_server")
        return server.database()

    with empty(request.param, another) as database:
        yield database


def ledger_at(path: Path, calls: Iterable[CallRow]) -> None:
    """A file as a gateway leaves it."""
    with closing(SqliteDatabase(path)) as database:
        fill(database, calls)


def asked(**parameters: str | list[str]) -> Query:
    return read_query({name: [value] if isinstance(value, str) else value for name, value in parameters.items()}, NOW)


Reported: TypeAlias = Callable[..., Report]


@pytest.fixture
def reported(database: Database) -> Reported:
    """The report of these calls: `reported(calls, by="team")`."""

    def made(calls: Iterable[CallRow], **parameters: str | list[str]) -> Report:
        fill(database, calls)
        return run(database, asked(**parameters))

    return made


def rows(report: Report) -> dict[Key, Sums]:
    found = dict(report.rows)
    assert len(found) == len(report.rows)
    return found


# --- sums -------------------------------------------------------------------------------------------------------------

names = st.sampled_from(["ann", "bob", "=cmd()", "Zoë", ""])
counts = st.none() | st.integers(0, 2**63 - 1)
moments = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))
calls = st.builds(
    a_call,
    st.uuids(),
    caller=names,
    team=st.none() | names,
    end_user=st.none() | names,
    tags=st.lists(st.sampled_from(["a", "b", "c"]), max_size=4).map(tuple),
    model_asked=st.sampled_from(["gpt", "claude", ""]),
    ending=st.sampled_from(["complete", "cut", "refused"]),
    input_tokens=counts,
    output_tokens=counts,
    cache_read_tokens=counts,
    reasoning_tokens=counts,
    estimated=st.booleans(),
    cost_nano_usd=counts,
    state=st.sampled_from(["settled", "unknown", "reserved"]),
    started_at=moments,
    first_token=st.none() | st.floats(0, 100),
    duration=st.floats(0, 1000),
)
ledgers = st.lists(calls, max_size=30, unique_by=lambda call: call.id)


def added(calls: Iterable[CallRow]) -> dict[str, Any]:
    """The same sums by hand, from rows in memory."""
    found = list(calls)

    def total(name: str) -> int | None:
        known = [value for call in found if (value := getattr(call, name)) is not None]
        return sum(known) if known else None

    cost = total("cost_nano_usd")
    return {
        "calls": len(found),
        "errors": sum(call.ending != "complete" for call in found),
        "input": total("input_tokens"),
        "output": total("output_tokens"),
        "cached": total("cache_read_tokens"),
        "written": total("cache_write_tokens"),
        "reasoning": total("reasoning_tokens"),
        "usd": None if cost is None else Decimal(cost) / 10**9 if cost < 10**27 else Decimal(f"{cost}e-9"),
        "cost_unknown": sum(call.cost_nano_usd is None for call in found),
        "tokens_unknown": sum(call.input_tokens is None or call.output_tokens is None for call in found),
        "estimated": sum(call.estimated for call in found),
    }


def told(sums: Sums) -> dict[str, Any]:
    return {
        "calls": sums.calls,
        "errors": sums.errors,
        "input": sums.input_tokens,
        "output": sums.output_tokens,
        "cached": sums.cache_read_tokens,
        "written": sums.cache_write_tokens,
        "reasoning": sums.reasoning_tokens,
        "usd": None if sums.cost_nano_usd is None else usd(sums.cost_nano_usd),
        "cost_unknown": sums.cost_unknown,
        "tokens_unknown": sums.tokens_unknown,
        "estimated": sums.estimated,
    }


def value_of(call: CallRow, name: str, zone: ZoneInfo) -> list[str | None]:
    """What a call is under in a dimension: several for tags."""
    local = call.started_at.astimezone(zone)
    match name:
        case "hour":
            return [local.strftime("%Y-%m-%dT%H:00") + local.isoformat()[-6:]]
        case "day":
            return [local.strftime("%Y-%m-%d")]
        case "month":
            return [local.strftime("%Y-%m")]
        case "tag":
            return list(dict.fromkeys(call.tags)) or [None]
        case "model" | "served":
            return [getattr(call, f"model_{'asked' if name == 'model' else 'served'}") or None]
        case "end_user":
            return [call.end_user or None]
        case _:
            return [getattr(call, name)]


def grouped(calls: Iterable[CallRow], by: Iterable[str], zone: str) -> dict[Key, list[CallRow]]:
    found: dict[Key, list[CallRow]] = defaultdict(list)
    for call in calls:
        keys: list[Key] = [()]
        for name in by:
            keys = [(*key, value) for key in keys for value in value_of(call, name, ZoneInfo(zone))]
        for key in keys:
            found[key].append(call)
    return found


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    ledger=ledgers,
    by=st.lists(st.sampled_from(DIMENSIONS), min_size=1, max_size=4, unique=True),
    zone=st.sampled_from(
        ["UTC", BERLIN, "Australia/Lord_Howe", "America/St_Johns", "Asia/Kolkata", "Africa/Casablanca"]
    ),
    bounds=st.lists(moments, min_size=2, max_size=2, unique=True),
)
def test_sums_are_those_made_by_hand(
    database: Database, ledger: list[CallRow], by: list[str], zone: str, bounds: list[datetime]
) -> None:
    since, until = sorted(bounds)
    query = asked(by=",".join(by), timezone=zone, since=since.isoformat(), until=until.isoformat())
    fill(database, ledger)
    report = run(database, query)
    wanted = [call for call in ledger if since <= call.started_at < until and call.state != "reserved"]
    expected = grouped(wanted, by, zone)
    assert {key: told(sums) for key, sums in report.rows} == {key: added(each) for key, each in expected.items()}
    assert told(report.totals) == added(wanted)
    for key, sums in report.rows:
        assert sums.duration == pytest.approx(sum(call.duration for call in expected[key]) / len(expected[key]))


def test_sums_beyond_64_bits_are_exact(reported: Reported) -> None:
    top = 2**63 - 1
    report = reported(a_call(n, cost_nano_usd=top, input_tokens=top, output_tokens=top) for n in range(5))
    assert report.totals.input_tokens == 5 * top
    assert json.loads(as_json(report))["totals"]["cost_usd"] == "46116860184.273879035"
    assert "46,116,860,184.273879" in "\n".join(lines(report, 100))


def test_what_is_unknown_is_counted_and_not_taken_for_nothing(reported: Reported) -> None:
    ledger = [
        a_call(1, cost_nano_usd=1_500_000_000),
        a_call(2, cost_nano_usd=None, output_tokens=None, state="unknown"),
        a_call(3, model_asked="claude", cost_nano_usd=None),
    ]
    report = reported(ledger)
    gpt, claude = rows(report)[("gpt",)], rows(report)[("claude",)]
    assert (gpt.cost_nano_usd, gpt.cost_unknown, gpt.output_tokens, gpt.tokens_unknown) == (1_500_000_000, 1, 5, 1)
    assert (claude.cost_nano_usd, claude.cost_unknown) == (None, 1)
    told = json.loads(as_json(report))
    assert [row["cost_usd"] for row in told["data"]] == ["1.500000000", None]
    assert [row["cost_unknown"] for row in told["data"]] == [1, 1]
    shown = list(lines(report, 100))
    assert ">= 1.500000" in shown[4]
    assert " unknown " in shown[5]
    assert ">= 1.500000" in shown[7]
    assert "The cost of 2 calls is unknown, so not in the sums: >= is a lower bound." in shown


def test_a_known_cost_of_nothing_is_nothing(reported: Reported) -> None:
    report = reported([a_call(1, cost_nano_usd=0)])
    assert report.totals.cost_nano_usd == 0
    assert ">=" not in "\n".join(lines(report, 100))


def test_a_call_that_is_not_over_is_not_in_it(reported: Reported) -> None:
    assert reported([a_call(1, state="reserved", ending="in_flight")]).totals == Sums()


@pytest.mark.parametrize("by", [*DIMENSIONS, ",".join(DIMENSIONS)])
def test_an_empty_ledger_has_no_rows(reported: Reported, by: str) -> None:
    report = reported([], by=by)
    assert (report.rows, report.totals) == ((), Sums())
    assert list(lines(report, 100))[-1] == "No calls."
    assert as_csv(report).count("\r\n") == 1
    assert json.loads(as_json(report))["data"] == []


def test_a_call_with_two_tags_counts_in_both_and_once_in_the_total(reported: Reported) -> None:
    report = reported([a_call(1, tags=("a", "b", "a")), a_call(2, tags=("b",)), a_call(3)], by="tag")
    assert {key: sums.calls for key, sums in report.rows} == {("a",): 1, ("b",): 2, (None,): 1}
    assert (report.totals.calls, report.totals.cost_nano_usd) == (3, 3)


def test_rows_are_bounded_and_totals_are_not(reported: Reported) -> None:
    report = reported((a_call(n, end_user=f"u{n}", cost_nano_usd=n) for n in range(MAX_ROWS + 5)), by="end_user")
    assert (len(report.rows), report.truncated) == (MAX_ROWS, True)
    assert report.rows[0][0] == (f"u{MAX_ROWS + 4}",)
    assert report.totals.calls == MAX_ROWS + 5
    assert json.loads(as_json(report))["truncated"] is True


def test_the_dearest_come_first_but_time_goes_on(reported: Reported) -> None:
    days = [a_call(n, started_at=NOW - timedelta(days=n), model_asked=f"m{n}", cost_nano_usd=n) for n in (1, 3, 2)]
    assert [key for key, _ in reported(days).rows] == [("m3",), ("m2",), ("m1",)]
    assert [key for key, _ in reported(days, by="day").rows] == [("2026-11-19",), ("2026-11-20",), ("2026-11-21",)]


# --- which calls ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (["caller=ann"], {"1", "2"}),
        (["caller=ann", "caller=bob"], {"1", "2", "3"}),
        (["caller=ann", "team=red"], {"1"}),
        (["team="], {"2", "3"}),
        (["tag=x"], {"1", "3"}),
        (["tag="], {"2"}),
        (["caller=' OR 1=1 --"], set()),
        (["model=gpt"], {"1", "2", "3"}),
        (["served="], {"1", "2", "3"}),
        (["caller=a=b"], set()),
    ],
)
def test_conditions_choose_calls(reported: Reported, where: list[str], found: set[str]) -> None:
    ledger = [
        a_call(1, team="red", tags=("x", "y"), end_user="1"),
        a_call(2, end_user="2"),
        a_call(3, caller="bob", tags=("x",), end_user="3"),
    ]
    assert {key[0] for key, _ in reported(ledger, by="end_user", where=where).rows} == found


def test_since_is_included_and_until_is_not(reported: Reported) -> None:
    at = [NOW - timedelta(hours=2), NOW - timedelta(hours=1), NOW - timedelta(microseconds=1), NOW]
    ledger = [a_call(n, started_at=moment) for n, moment in enumerate(at)]
    assert reported(ledger, since="1h").totals.calls == 2
    assert reported(ledger, since="2h", until="1h").totals.calls == 1


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("24h", "UTC", NOW - timedelta(days=1)),
        ("2w", BERLIN, NOW - timedelta(days=14)),
        ("90m", "UTC", NOW - timedelta(minutes=90)),
        ("2026-11-01", "UTC", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01", BERLIN, datetime(2026, 10, 31, 23, tzinfo=UTC)),
        ("2026-07-01T10:00", BERLIN, datetime(2026, 7, 1, 8, tzinfo=UTC)),
        ("2026-07-01T10:00Z", BERLIN, datetime(2026, 7, 1, 10, tzinfo=UTC)),
        ("2026-07-01 10:00+01:00", "UTC", datetime(2026, 7, 1, 9, tzinfo=UTC)),
        ("0001-01-01T00:00+14:00", "UTC", datetime(2000, 1, 1, tzinfo=UTC)),
        ("999999w", "America/New_York", datetime(2000, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_can_be_told_in_several_ways(text: str, zone: str, moment: datetime) -> None:
    query = asked(since=text, timezone=zone)
    assert (query.since, query.until) == (moment, NOW)
    assert query.since.tzinfo == ZoneInfo(zone)


def test_a_time_beyond_the_calendar_is_its_end() -> None:
    assert asked(until="9999-12-31T23:59-14:00").until.year == 2100


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"by": ["callers"]}, "by"),
        ({"by": [""]}, "by"),
        ({"by": ["model,model"]}, "by"),
        ({"by": ["model", "day"]}, "by"),
        ({"by": ["calls.caller; DROP TABLE calls"]}, "by"),
        ({"since": ["yesterday"]}, "since"),
        ({"since": ["-7d"]}, "since"),
        ({"since": ["٧d"]}, "since"),
        ({"since": ["7d\n"]}, "since"),
        ({"since": ["1h"], "until": ["2h"]}, "since"),
        ({"until": ["2026-13-01"]}, "until"),
        ({"timezone": ["Europe/Berlim"]}, "timezone"),
        ({"timezone": ["../../etc/passwd"]}, "timezone"),
        ({"timezone": ["/etc/localtime"]}, "timezone"),
        ({"timezone": ["Europe"]}, "timezone"),
        ({"timezone": ["UTC\0"]}, "timezone"),
        ({"where": ["caller"]}, "where"),
        ({"where": ["day=2026-11-22"]}, "where"),
        ({"where": ["1=1"]}, "where"),
        ({"where": ["caller=" + "x" * 257]}, "where"),
        ({"where": ["caller=\ud800"]}, "where"),
        ({"where": ["caller=\0"]}, "where"),
        ({"where": ["caller=x"] * 21}, "where"),
        ({"wher": ["caller=x"]}, "wher"),
    ],
)
def test_a_wrong_parameter_is_named(parameters: Mapping[str, list[str]], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_query(parameters, NOW)
    assert (caught.value.status, caught.value.param) == (400, param)


@given(st.text(max_size=40), st.sampled_from(["by", "since", "until", "timezone", "where"]))
@settings(deadline=None)
def test_any_text_is_a_query_or_a_bad_request(database: Database, text: str, name: str) -> None:
    try:
        query = read_query({name: [text]}, NOW)
    except BadRequest:
        return
    fill(database, [])
    assert run(database, query).totals == Sums()


# --- time zones -------------------------------------------------------------------------------------------------------


def test_the_hour_that_comes_twice_is_two(reported: Reported) -> None:
    at = [datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1)]
    report = reported(
        (a_call(n, started_at=moment) for n, moment in enumerate(at)), by="hour", since="2026-10-20", timezone=BERLIN
    )
    assert [key for key, _ in report.rows] == [("2026-10-25T02:00+02:00",), ("2026-10-25T02:00+01:00",)]


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2026-03-28T22:59:59.999999", "2026-03-28"),
        ("2026-03-28T23:00:00.000000", "2026-03-29"),
        ("2026-03-29T21:59:59.999999", "2026-03-29"),
        ("2026-03-29T22:00:00.000000", "2026-03-30"),
        ("2026-10-24T21:59:59.999999", "2026-10-24"),
        ("2026-10-24T22:00:00.000000", "2026-10-25"),
        ("2026-10-25T22:59:59.999999", "2026-10-25"),
        ("2026-10-25T23:00:00.000000", "2026-10-26"),
    ],
)
def test_a_day_of_23_or_25_hours_has_its_own_borders(reported: Reported, moment: str, day: str) -> None:
    started = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    report = reported([a_call(1, started_at=started)], by="day", since="2026-01-01", timezone=BERLIN)
    assert [key for key, _ in report.rows] == [(day,)]


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1"])
def test_a_name_is_no_formula_to_a_spreadsheet(reported: Reported, name: str) -> None:
    report = reported([a_call(1, caller=name, team='a,"b"\nc')], by="caller,team")
    head, row = list(csv.reader(io.StringIO(as_csv(report), newline="")))
    assert head[:2] == ["caller", "team"]
    assert row[:2] == ["'" + name, 'a,"b"\nc']
    assert dict(zip(head, row, strict=True))["cost_usd"] == "0.000000001"


def test_a_name_cannot_command_the_terminal(reported: Reported) -> None:
    report = reported([a_call(1, caller="\x1b[2Jann\r\n\u202e")], by="caller", where=["caller=\x1b[2Jann\r\n\u202e"])
    assert all(line.isprintable() for line in lines(report, 100))


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_table_is_aligned_and_within_its_width(reported: Reported, width: int) -> None:
    ledger = [
        a_call(1, caller="a" * 200, cost_nano_usd=10**15, input_tokens=10**9, reasoning_tokens=7, cache_read_tokens=1),
        a_call(2, caller="漢字" * 20, cost_nano_usd=None),
        a_call(3, caller="bob", cost_nano_usd=10),
    ]
    shown = list(lines(reported(ledger, by="caller,model"), width))
    table = shown[2:9]
    widths = {sum(2 if east_asian_width(letter) in "WF" else 1 for letter in line) for line in table}
    assert len(widths) == 1
    assert widths.pop() <= max(width, 90)  # what is never left out
    assert "1,000,000,000" in "\n".join(table)
    assert "< 0.000001" in "\n".join(table)
    assert table[-1].startswith("total ")


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_report_is_read_beside_a_writer_and_after_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    query = asked()
    url = f"sqlite:///{path}"
    ledger_at(path, [a_call(1)])
    with closing(open_file(path)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        settle(writer, [(a_call(2), ())])
        assert report_from(url, query, lambda: False).totals.calls == 1
        writer.execute("COMMIT")
        assert report_from(url, query, lambda: False).totals.calls == 2
    assert not path.with_name("ledger.db-wal").exists()
    assert report_from(url, query, lambda: False).totals.calls == 2


def test_a_report_cannot_write(tmp_path: Path) -> None:
    ledger_at(tmp_path / "ledger.db", [a_call(1)])
    with closing(report_file.open_report(tmp_path / "ledger.db")) as connection:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM calls")


def test_a_folder_in_which_nothing_can_be_made_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    ledger_at(path, [a_call(1)])
    real = report_file._application

    def application(connection: sqlite3.Connection) -> int:
        """Fails as SQLite does there for the first connection; root could make files in any folder."""
        monkeypatch.setattr(report_file, "_application", real)
        error = sqlite3.OperationalError("attempt to write a readonly database")
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY_DIRECTORY
        raise error

    monkeypatch.setattr(report_file, "_application", application)
    assert report_from(f"sqlite:///{path}", asked(), lambda: False).totals.calls == 1
    monkeypatch.setattr(report_file, "_application", application)
    path.with_name("ledger.db-wal").touch()
    with pytest.raises(Unavailable, match="readonly"):
        report_from(f"sqlite:///{path}", asked(), lambda: False)


@pytest.fixture
def many(store: Store) -> str:
    """The URL of a ledger of many calls."""
    with store.database() as database:
        fill(database, (a_call(n, end_user=str(n)) for n in range(5000)))
    return store.url


def test_a_report_that_nobody_wants_any_more_is_stopped(many: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_database, "_OPERATIONS", 100)
    looks = iter([False] * 5)
    with closing(open_database(many)) as beside:
        if many.startswith("postgresql"):  # which does not look at what it has done, but at what it waits for
            beside.execute("BEGIN")
            beside.execute("LOCK TABLE calls")
        with pytest.raises(Interrupted):
            report_from(many, asked(by="end_user"), lambda: next(looks, True))


async def test_a_report_that_takes_too_long_is_a_503(many: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_module, "ASKED_SECONDS", -1.0)
    reporter = Reporter(many, NullLedger(SystemClock()))
    with pytest.raises(SidegateError) as caught:
        await reporter.report(asked(by="end_user"))
    reporter.stop()
    assert (caught.value.status, caught.value.code) == (503, "usage_too_slow")


async def test_who_leaves_stops_the_report_and_too_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, stopped = Event(), Event()

    def endless(url: str, work: object, over: Callable[[], bool]) -> Report:
        running.set()
        while not over():
            time.sleep(0.001)
        stopped.set()
        raise Interrupted

    monkeypatch.setattr(asking_module, "asked", endless)
    reporter = Reporter(f"sqlite:///{tmp_path}/ledger.db", NullLedger(SystemClock()))
    tasks = [asyncio.create_task(reporter.report(asked())) for _ in range(MAX_ASKED)]
    await asyncio.to_thread(running.wait, 5)
    with pytest.raises(SidegateError) as caught:
        await reporter.report(asked())
    assert (caught.value.status, caught.value.code) == (503, "usage_busy")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert await asyncio.to_thread(stopped.wait, 5)
    reporter.stop()


async def test_a_damaged_file_is_a_503(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database" * 1000)
    reporter = Reporter(f"sqlite:///{tmp_path}/ledger.db", NullLedger(SystemClock()))
    with pytest.raises(SidegateError) as caught:
        await reporter.report(asked())
    reporter.stop()
    assert (caught.value.status, caught.value.code) == (503, "ledger_unavailable")


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "sidegate.yaml"
    path.write_text("providers: {demo: {dialect: demo}}\nmodels: {demo: {provider: demo}}\npipelines: {main: {}}\n")
    return str(path)


@pytest.fixture
def kept(config: str, tmp_path: Path) -> str:
    """The config of a gateway that ran an hour ago."""
    now = datetime.now(UTC)
    path = tmp_path / "var" / "sidegate.db"
    ledger_at(path, [a_call(1, started_at=now), a_call(2, caller="=cmd()", started_at=now - timedelta(hours=1))])
    return config


def test_the_command_shows_a_table(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", kept, "--by", "caller,model", "--since", "1d"]) == 0
    shown, err = capsys.readouterr()
    assert err == ""
    assert [line.split()[:4] for line in shown.splitlines()[3:7] if "---" not in line] == [
        ["=cmd()", "gpt", "1", "0"],
        ["ann", "gpt", "1", "0"],
    ]
    assert shown.splitlines()[7].split() == ["total", "2", "0", "20", "10", "0.000000002", "2.00", "0.50"]


def test_the_command_speaks_json_and_csv(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", kept, "--format", "json", "--where", "caller=ann", "--where", "model=gpt"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["cost_usd"] == "0.000000001"
    assert main(["usage", kept, "--format", "csv", "--by", "caller"]) == 0
    assert [row[:2] for row in csv.reader(capsys.readouterr().out.splitlines())] == [
        ["caller", "calls"],
        ["'=cmd()", "1"],
        ["ann", "1"],
    ]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--by", "callers"], "--by: `by` is a list, with commas, of caller, key_id,"),
        (["--since", "soon"], "--since: `since` is a time such as 7d,"),
        (["--timezone", "Mars"], "--timezone: No such time zone is known"),
        (["--where", "x"], "--where: `where` is DIMENSION=VALUE"),
        (["--by", "model", "--by", "day"], "--by: `by` stands there 2 times."),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_2(
    kept: str, capsys: pytest.CaptureFixture[str], options: list[str], line: str
) -> None:
    assert main(["usage", kept, *options]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(line)


def test_no_ledger_is_one_line_and_exit_2(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", config]) == 2
    assert "no gateway has recorded a call yet" in capsys.readouterr().err
    assert not (tmp_path / "var").exists()
    (tmp_path / "var").mkdir()
    for damage in (b"", b"no database" * 1000):
        (tmp_path / "var" / "sidegate.db").write_bytes(damage)
        assert main(["usage", config]) == 2
        assert capsys.readouterr().err.startswith(f"ledger.url: {tmp_path}/var/sidegate.db cannot be read: ")
    Path(config).write_text(Path(config).read_text() + "ledger: {url: ''}\n")
    assert main(["usage", config]) == 2
    assert capsys.readouterr().err == "ledger.url: is empty, so nothing is on record\n"


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_an_output_that_knows_few_letters_is_no_traceback(kept: str, tmp_path: Path, form: str) -> None:
    now = datetime.now(UTC)
    calls = [a_call(8, started_at=now), a_call(9, caller="漢字", started_at=now)]
    ledger_at(tmp_path / "var" / "sidegate.db", calls)
    command = [sys.executable, "-m", "sidegate", "usage", kept, "--by", "caller", "--format", form]
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environ, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"ann" in done.stdout


def test_every_dimension_stands_in_the_manual() -> None:
    page = (Path(__file__).parent.parent / "docs" / "usage.md").read_text()
    for name in (*DIMENSIONS, *COLUMNS):
        assert f"`{name}`" in page


# --- a million calls --------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_million_calls_answer_in_seconds(store: Store) -> None:
    from bench import usage

    usage.make(store.url, 1_000_000)
    for question in usage.QUESTIONS[:-1]:
        query = read_query({name: [value] for name, value in question.items()}, usage.NOW)
        before = time.process_time()
        seconds, _ = usage.times(store.url, query, 3)
        if store.kind == "sqlite":  # all of it is this process's own work, whatever else the machine does
            assert (time.process_time() - before) / 3 < 3, question
        else:
            assert seconds[0] < 1, question
