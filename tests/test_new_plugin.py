"""`sidegate new-plugin`: a package with whatever name it may have, over nothing that is there."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sidegate.cli import main
from sidegate.config import read_config
from sidegate.errors import ConfigError
from sidegate.scaffold import Names
from tests.tree import ROOT

EXAMPLE = ROOT / "examples" / "acme-shout"


def files(folder: Path) -> dict[str, str]:
    found = [path for path in folder.rglob("*") if path.is_file() and not {"__pycache__", "build"} & set(path.parts)]
    kept = [path for path in found if not any(part.startswith(".") or "egg-info" in part for part in path.parts)]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in kept}


def test_the_example_is_what_it_writes(tmp_path: Path) -> None:
    assert main(["new-plugin", "acme-shout", "--into", str(tmp_path)]) == 0
    assert files(tmp_path / "acme-shout") == files(EXAMPLE)


def test_it_says_what_it_wrote_and_what_to_type_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-plugin", "acme-redact", "--into", str(tmp_path)]) == 0
    written, _, following = capsys.readouterr().out.partition("\nNext:\n")
    assert sorted(written.split()) == sorted(
        str(tmp_path / "acme-redact" / name) for name in files(tmp_path / "acme-redact")
    )
    assert [line.split()[0] for line in following.splitlines()] == ["pip", "pytest", "sidegate"]


@pytest.mark.parametrize(
    ("name", "module", "word", "cls"),
    [
        ("acme-redact", "acme_redact", "redact", "Redact"),
        ("acme-no-names", "acme_no_names", "no_names", "NoNames"),
        ("redactor", "redactor", "redactor", "Redactor"),
        ("a1-b2", "a1_b2", "b2", "B2"),
    ],
)
def test_a_name_becomes_others(tmp_path: Path, name: str, module: str, word: str, cls: str) -> None:
    assert main(["new-plugin", name, "--into", str(tmp_path)]) == 0
    there = files(tmp_path / name)
    assert {f"src/{module}/__init__.py", f"tests/test_{word}.py"} < set(there)
    assert f"class {cls}(Plugin[Settings]):" in there[f"src/{module}/__init__.py"]
    assert f'{module} = "{module}:{cls}"' in there["pyproject.toml"]
    for path, text in there.items():
        assert "@" not in text.replace("@pytest", "").replace("@given", ""), path
        if path.endswith(".py"):
            compile(text, path, "exec")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Acme",
        "acme_redact",
        "-acme",
        "acme-",
        "acme--redact",
        "../acme",
        "acme/redact",
        "acme redact",
        "1acme",
        "acme-réd",
        "a" * 65,
        "class",
        "json",
        "sidegate",
        "sidegate-plugins",
        "acme-1x",
        "acme-settings",
        "acme-none",
        "acme-testing",
        "test",
        "log",
    ],
)
def test_what_cannot_be_a_name_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["new-plugin", "--into", str(tmp_path), "--", name]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "acme-redact" / "README.md"
    kept.parent.mkdir()
    kept.write_text("mine")
    assert main(["new-plugin", "acme-redact", "--into", str(tmp_path)]) == 2
    assert "is there already: nothing was written" in capsys.readouterr().err
    assert files(kept.parent) == {"README.md": "mine"}


def test_a_folder_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-plugin", "acme-redact", "--into", str(tmp_path / "gone")]) == 2
    assert "No such file or directory" in capsys.readouterr().err


@pytest.mark.usefixtures("acme_shout")
def test_its_config_is_right() -> None:
    uses = read_config(EXAMPLE / "sidegate.yaml", {}).settings.pipelines["main"].plugins
    assert [use.use for use in uses] == ["acme_shout"]


def test_the_version_of_the_contract_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "cost"]) == 0
    assert "contract: 1 (this gateway has 1)" in capsys.readouterr().out
    assert main(["plugins", "cost", "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["contract"] == 1


def test_names_are_looked_at_before_anything_is_made() -> None:
    with pytest.raises(ConfigError, match="choose another name"):
        Names("pytest")
