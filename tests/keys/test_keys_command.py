"""`sidegate keys`: what it prints on which stream, what it understands, and what it says of mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sidegate.cli import main
from sidegate.contract.keys import key_digest
from sidegate.ledger.opening import open_database

CONFIG = """
ledger: {{url: {url}}}
providers: {{demo: {{dialect: demo}}}}
models: {{demo: {{provider: demo}}}}
pipelines:
  main:
    plugins:
      - {{use: api_key, settings: {{{api_key}}}}}
      - {{use: model_access, settings: {{default: ["*"]}}}}
      - {{use: cost, settings: {{prices: {{demo: {{input: 1, output: 2}}}}}}}}
"""

Keys = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sidegate.yaml"
    url = f"sqlite:///{tmp_path}/state/ledger.db"
    path.write_text(CONFIG.format(url=url, api_key="issued: true"))
    open_database(url).close()
    return path


@pytest.fixture
def keys(config: Path, capsys: pytest.CaptureFixture[str]) -> Keys:
    def run(*words: str, at: Path = config) -> tuple[int, str, str]:
        code = main(["keys", *words, "--config", str(at)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def issued(keys: Keys, *words: str) -> dict[str, Any]:
    code, out, _ = keys("issue", *words, "--json")
    assert code == 0
    found: dict[str, Any] = msgspec.json.decode(out)
    return found


def test_a_key_is_shown_once_and_its_log_line_is_on_standard_error(keys: Keys) -> None:
    code, out, err = keys("issue", "ann", "--owner", "boss")
    assert code == 0
    first, *_ = out.splitlines()
    secret = first.removeprefix("API key: ")
    assert len(secret) == 46
    line = msgspec.json.decode(err)
    assert (line["event"], line["name"], line["owner"]) == ("key_issued", "ann", "boss")
    assert line["by"].startswith("cli:")
    assert secret not in err
    for words in (("list",), ("show", "ann"), ("list", "--json"), ("show", "ann", "--json")):
        _, out, err = keys(*words)
        assert "ann" in out
        assert err == ""
        assert secret not in out
        assert key_digest(secret) not in out


def test_everything_a_key_may_use_can_be_said(keys: Keys) -> None:
    told = issued(
        keys,
        *("ann", "--team", "red", "--tags", "a,b", "--tags", "c", "--names-end-users", "--expires", "90d"),
        *("--models", "gpt-*,demo", "--models", "o3", "--limit", "60/minute", "--limit", "1000/day"),
        *("--input-tokens", "100000/minute", "--output-tokens", "9/second", "--concurrency", "5"),
        *("--budget", "20/month", "--soft-budget", "1.50/day", "--timezone", "Europe/Berlin"),
    )["key"]
    assert (told["team"], told["tags"], told["names_end_users"]) == ("red", ["a", "b", "c"], True)
    none = {"requests": None, "input_tokens": None, "output_tokens": None}
    assert told["allowance"] == {
        "models": ["gpt-*", "demo", "o3"],
        "limits": [
            {**none, "requests": 60, "period": "minute"},
            {**none, "requests": 1000, "period": "day"},
            {**none, "input_tokens": 100_000, "period": "minute"},
            {**none, "output_tokens": 9, "period": "second"},
        ],
        "concurrency": 5,
        "budgets": [
            {"amount_usd": "20", "period": "month", "timezone": "Europe/Berlin", "hard": True},
            {"amount_usd": "1.50", "period": "day", "timezone": "Europe/Berlin", "hard": False},
        ],
    }
    _, out, _ = keys("show", "ann")
    for said in ("gpt-*, demo, o3", "1,000 calls/day", "5 at a time", "1.50 USD/day (Europe/Berlin), soft"):
        assert said in " ".join(out.split())


def test_a_key_goes_through_its_life_by_its_name(keys: Keys) -> None:
    told = issued(keys, "ann", "--expires", "90d")
    rotated = msgspec.json.decode(keys("rotate", "ann", "--grace", "1h", "--json")[1])
    assert rotated["key"]["id"] == told["key"]["id"]
    assert rotated["secret"] != told["secret"]
    assert "old secret is good until" in keys("show", "ann")[1]
    _, out, err = keys("change", "ann", "--budget", "5/day", "--clear", "expires", "--name", "bob")
    assert "5 USD/day" in out
    assert "never" in out
    assert '"key_changed"' in err
    assert keys("revoke", "bob")[0] == 0
    assert "revoked" in keys("list")[1]
    assert keys("list", "--state", "active")[1] == "no keys\n"
    assert keys("revoke", "bob") == (2, "", "there is no key of this id or name\n")
    assert keys("revoke", told["key"]["id"])[0] == 0
    assert keys("rotate", told["key"]["id"]) == (2, "", "The key is revoked.\n")


def test_what_is_cleared_is_gone_and_what_is_not_named_stays(keys: Keys) -> None:
    issued(keys, "ann", "--owner", "boss", "--team", "red", "--tags", "a", "--models", "demo", "--budget", "1/day")
    words = [word for name in ("team", "tags", "models") for word in ("--clear", name)]
    changed = msgspec.json.decode(keys("change", "ann", *words, "--json")[1])
    assert (changed["owner"], changed["team"], changed["tags"]) == ("boss", None, [])
    assert (changed["allowance"]["models"], len(changed["allowance"]["budgets"])) == ([], 1)


def test_a_name_that_several_keys_have_is_not_guessed(keys: Keys) -> None:
    first, second = issued(keys, "ann"), issued(keys, "ann")
    code, _, err = keys("revoke", "ann")
    assert code == 2
    assert f"{first['key']['id']} or {second['key']['id']}" in err
    assert keys("revoke", first["key"]["id"])[0] == 0
    assert keys("revoke", "ann")[0] == 0


def test_who_issues_a_key_is_warned_where_it_would_be_refused(keys: Keys, config: Path, tmp_path: Path) -> None:
    _, _, err = keys("issue", "ann", "--concurrency", "5")
    assert "warning: pipeline main refuses this key: it does not enforce concurrency (plugin concurrency)\n" in err
    other = tmp_path / "other.yaml"
    other.write_text(CONFIG.format(url=f"sqlite:///{tmp_path}/l.db", api_key="file: keys.jsonl"))
    assert "warning: no pipeline of the config lets issued keys in" in keys("issue", "ann", at=other)[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("issue", "ann", "--limit", "60"), "--limit: write an amount and a period"),
        (("issue", "ann", "--limit", "many/minute"), "--limit: the amount is a whole number"),
        (("issue", "ann", "--limit", "60/year"), "allowance.limits[0].period: Invalid enum value 'year'"),
        (("issue", "ann", "--limit", "1/day", "--limit", "2/day"), "allowance: 2 limits of requests a day"),
        (("issue", "ann", "--budget", "much/day"), "amount_usd: not a number"),
        (("issue", "ann", "--timezone", "UTC"), "--timezone belongs to --budget"),
        (("issue", "ann", "--expires", "soon"), "expires: write 90d"),
        (("issue", "a\x1b[2Jb"), "name: has characters that have no place there"),
        (("issue", "a\udcffb"), "name: has characters that have no place there"),
        (("issue", "ann", "--models", "*-mini"), "allowance.models[0]: has characters"),
        (("change", "ann"), "there is no key of this id or name"),
        (("change", "key-0", "--team", "red"), "There is no key of this id."),
        (("change", "ann", "--team", "red", "--clear", "team"), "--clear team and a new value exclude each other"),
        (("rotate", "key-0", "--grace", "1y"), "grace: write 24h"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(keys: Keys, words: tuple[str, ...], said: str) -> None:
    code, out, err = keys(*words)
    assert (code, out) == (2, "")
    assert said in err or words == ("change", "ann")
    assert len(err.splitlines()) == 1
    assert keys("list")[1] == "no keys\n"


def test_without_a_ledger_there_is_nowhere_to_keep_keys(keys: Keys, tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    path.write_text(CONFIG.format(url="''", api_key="issued: true"))
    assert keys("list", at=path) == (2, "", "ledger.url: is empty, so there is nowhere to keep keys\n")


@pytest.mark.parametrize("words", [("list",), ("show", "ann"), ("revoke", "ann")])
def test_where_no_key_was_ever_issued_nothing_is_made(keys: Keys, tmp_path: Path, words: tuple[str, ...]) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(CONFIG.format(url=f"sqlite:///{tmp_path}/new/ledger.db", api_key="issued: true"))
    said = f"ledger.url: {tmp_path}/new/ledger.db is not there: no key has been issued yet\n"
    assert keys(*words, at=path) == (2, "", said)
    assert not (tmp_path / "new").exists()


def test_on_postgres_the_schema_comes_first(keys: Keys, tmp_path: Path, postgres_url: str) -> None:
    from sidegate.ledger.migrate import migrate

    path = tmp_path / "postgres.yaml"
    path.write_text(CONFIG.format(url=postgres_url, api_key="issued: true"))
    code, _, err = keys("issue", "ann", at=path)
    assert code == 2
    assert "sidegate migrate" in err
    migrate(postgres_url)
    assert keys("issue", "ann", at=path)[0] == 0
    assert "ann" in keys("list", at=path)[1]
