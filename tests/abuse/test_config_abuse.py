"""A config that is wrong never starts: exit code 2, a line that names the field, no secret. `tests/test_config.py` has
every mistake; here is what an operator sees."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sidegate.cli import main

SECRET = "sk-operators-5ecret-0123456789abcdef"


def usable(**blocks: Any) -> dict[str, Any]:
    return {
        "listen": {"port": 0},
        "admin": {"port": 0},
        "providers": {"one": {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": SECRET}},
        "models": {"gpt": {"provider": "one"}},
        "pipelines": {"main": {"plugins": []}},
        "ledger": {"url": ""},
    } | blocks


def provider(**fields: Any) -> dict[str, Any]:
    return {"one": {"dialect": "openai", "api_key": SECRET} | fields}


def plugins(*uses: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"pipelines": {"main": {"plugins": list(uses)}}, **rest}


def keys(**fields: Any) -> dict[str, Any]:
    return {"use": "api_key", "settings": {"keys": [{"name": "a", "digest": "sha256:" + "0" * 64} | fields]}}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"sever": {"drain": 1}}, "sever"),
    "an unknown key of a plugin": (plugins({"use": "log", "settings": {"body": True}}), "pipelines.main[0]"),
    "a URL of another kind": ({"providers": provider(base_url=f"file:///{SECRET}")}, "providers.one.base_url"),
    "credentials in a URL": ({"providers": provider(base_url=f"http://u:{SECRET}@h/")}, "providers.one.base_url"),
    "a missing variable": ({"providers": provider(api_key="${SIDEGATE_NO_SUCH}")}, "SIDEGATE_NO_SUCH"),
    "a key with a line break": ({"providers": provider(api_key=f"{SECRET}\r\nX: y")}, "providers.one.api_key"),
    "a header with a line break": (
        {"providers": provider(headers={"x-a": f"{SECRET}\r\nx-b: c"})},
        "providers.one.headers.x-a",
    ),
    "a name of a key with a line break": (plugins(keys(name="a\r\nb")), "keys[0].name"),
    "a digest that is none": (plugins(keys(digest=SECRET)), "pipelines.main[0]"),
    "a route twice": (
        {"routes": [{"name": "a", "pipeline": "main"}, {"name": "a", "pipeline": "main", "prefix": "/b"}]},
        "routes[1].name",
    ),
    "a route that is never reached": (
        {"routes": [{"name": "a", "pipeline": "main"}, {"name": "b", "pipeline": "main"}]},
        "routes[1]",
    ),
    "no regular expression": (
        plugins({"use": "log", "settings": {"bodies": True, "redact": ["(a"]}}),
        "pipelines.main[0]",
    ),
    "a regular expression that never ends": (
        plugins({"use": "log", "settings": {"bodies": True, "redact": ["^(a+)+$"]}}),
        "pipelines.main[0]",
    ),
    "a provider nobody declared": ({"models": {"gpt": {"provider": "two"}}}, "models.gpt.provider"),
    "a number out of bounds": ({"server": {"max_calls": 0}}, "server.max_calls"),
    "a plugin nobody has": (plugins({"use": "no_such"}), "pipelines.main[0].use"),
    "a module outside of the prefixes": (
        plugins({"use": "os:system"}, plugin_prefixes=["acme"]),
        "pipelines.main[0].use",
    ),
    "a module with a prefix's beginning": (
        plugins({"use": "acmevil.plugin:Plugin"}, plugin_prefixes=["acme"]),
        "pipelines.main[0].use",
    ),
    "a path of a file": (plugins({"use": "/tmp/evil.py:Plugin"}), "pipelines.main[0].use"),
    "a path upwards": (plugins({"use": "../evil:Plugin"}), "pipelines.main[0].use"),
    "what is no plugin": (plugins({"use": "os:system"}), "pipelines.main[0].use"),
}


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(("blocks", "named"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_config_is_one_line_and_never_starts(
    command: str, blocks: dict[str, Any], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sidegate.json"
    path.write_text(json.dumps(usable(**blocks)))
    assert main([command, str(path)]) == 2
    said = capsys.readouterr()
    lines = said.err.rstrip("\n").split("\n")
    assert len([line for line in lines if not line.startswith("warning: ")]) == 1, lines
    assert named in lines[-1]
    assert "Traceback" not in said.err
    assert "5ecret" not in said.err + said.out
    assert "listens on" not in said.err


def test_what_the_config_may_not_name_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sidegate_evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "sidegate.json"
    path.write_text(json.dumps(usable(**plugins({"use": "sidegate_evil:Plugin"}, plugin_prefixes=["acme"]))))
    assert main(["check", str(path)]) == 2
    assert "sidegate_evil" not in sys.modules


def test_a_prefix_leaves_the_entry_points_usable(tmp_path: Path) -> None:
    path = tmp_path / "sidegate.json"
    path.write_text(json.dumps(usable(**plugins({"use": "log"}, plugin_prefixes=[]))))
    assert main(["check", str(path)]) == 0
