"""What is installed is whole: the wheel has every module, and a clean environment serves from it."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import sidegate
from tests.installed import (
    Served,
    any_port,
    clean_copy,
    clean_environ,
    make_venv,
    offline_pip,
    run,
    served,
    status,
)
from tests.pages import blocks
from tests.tree import ROOT, SOURCES, entry_points, listed, modules


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a clean copy: what an earlier build left must not hide what the package list forgets."""
    base = tmp_path_factory.mktemp("wheel")
    copy = clean_copy(base / "clone")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", base, copy], base)
    (found,) = base.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment in which the wheel is installed, and the gateway is nowhere else."""
    made = make_venv(tmp_path_factory.mktemp("venv") / "venv")
    run([made / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", wheel], made, **offline_pip())
    return made


# --- the wheel --------------------------------------------------------------------------------------------------------


def test_it_has_every_module_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    expected = {f"{package}/{path.relative_to(SOURCES[package]).as_posix()}" for package, path in shipped()}
    assert names == expected | set(data())


def data() -> Iterator[str]:
    """What lies between the modules: pages, templates, the mark of types."""
    for package, folder in SOURCES.items():
        for path in folder.rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if path.is_file() and path.suffix not in (".py", ".pyc") and not hidden:
                yield f"{package}/{path.relative_to(folder).as_posix()}"


def shipped() -> list[tuple[str, Path]]:
    return [(name.partition(".")[0], path) for name, path in modules().items()]


def test_it_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        (record,) = (name for name in file.namelist() if name.endswith("/METADATA"))
        metadata = file.read(record).decode()
        points = file.read(record.replace("METADATA", "entry_points.txt")).decode()
    assert f"\nVersion: {sidegate.__version__}\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert (ROOT / "README.md").read_text().strip() in metadata
    assert all(f"{name} = {target}" in points for name, target in entry_points().items())
    assert len(listed("options", "install_requires")) == metadata.count("Requires-Dist") - metadata.count("extra ==")


# --- a clean environment ----------------------------------------------------------------------------------------------


def test_the_command_is_there(venv: Path, tmp_path: Path) -> None:
    where = run([venv / "bin" / "python", "-c", "import sidegate; print(sidegate.__file__)"], tmp_path)
    assert where.startswith(str(venv))
    assert run([venv / "bin" / "sidegate", "--version"], tmp_path) == f"sidegate {sidegate.__version__}\n"
    assert run([venv / "bin" / "python", "-m", "sidegate", "--version"], tmp_path).startswith("sidegate ")


def test_every_plugin_is_found(venv: Path, tmp_path: Path) -> None:
    lines = run([venv / "bin" / "sidegate", "plugins"], tmp_path).splitlines()
    found = {line.split()[0]: line.split()[1] for line in lines if not line.startswith(" ")}
    assert set(entry_points()) <= set(found)
    assert not [name for name in entry_points() if found[name] not in ("guard", "observer")]


def test_it_serves_the_default_config_from_a_clean_directory(venv: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    any_port(tmp_path / "config" / "sidegate.yaml")
    with served([venv / "bin" / "sidegate", "serve"], tmp_path, clean_environ(), tmp_path / "log") as running:
        print(f"ready after {running.seconds:.2f} s")  # noqa: T201
        assert status(f"{running.url}/livez") == 200
        assert status(f"{running.url}/v1/models") == 401
    assert running.seconds < 10
    assert (tmp_path / "var" / "sidegate.db").exists()
    assert status(f"{running.url}/livez") == 0


def test_types_are_found_by_those_who_import_it(venv: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from sidegate.contract import Call\n\n\ndef name(call: Call) -> int:\n    return call.id\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", str(venv / "bin" / "python"), "mine.py"],
        cwd=tmp_path,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert 'got "str", expected "int"' in done.stdout, done.stdout + done.stderr


def test_a_plugin_is_begun_tested_and_served_in_three_commands(venv: Path, tmp_path: Path) -> None:
    """What `new-plugin` prints, as it prints it; only packages are lent, and no index is asked."""
    said = run([venv / "bin" / "sidegate", "new-plugin", "acme-redact"], tmp_path)
    install, test, serve = (line.strip() for line in said.partition("Next:\n")[2].splitlines())
    assert install == "pip install -e 'acme-redact[test]'"
    options = ["--no-deps", "--quiet", "--no-build-isolation"]
    run([venv / "bin" / "python", "-m", "pip", "install", *options, "./acme-redact[test]"], tmp_path, **offline_pip())
    assert "acme_redact" in run([venv / "bin" / "sidegate", "plugins"], tmp_path)
    assert test == "pytest acme-redact"
    pytest_there: list[str | Path] = [venv / "bin" / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    assert " passed" in run([*pytest_there, "acme-redact"], tmp_path)
    config = tmp_path / serve.removeprefix("sidegate serve ")
    config.write_text("listen: {port: 0}\nadmin: {port: 0}\n" + config.read_text())
    with served([venv / "bin" / "sidegate", "serve", config], tmp_path, clean_environ(), tmp_path / "log") as running:
        body = {"model": "demo-echo", "messages": [{"role": "user", "content": "hello acme corp"}]}
        asked = urllib.request.Request(
            f"{running.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=10) as reply:
            assert b"hello ACME Corp" in reply.read()


# --- scripts/serve ----------------------------------------------------------------------------------------------------


def test_a_clone_serves_after_one_command(tmp_path: Path) -> None:
    """`scripts/serve` as it is, in a clone. Packages are lent to its environment; the install itself is offline."""
    clone = clean_copy(tmp_path / "clone")
    any_port(clone / "config" / "sidegate.yaml")
    make_venv(clone / ".venv")
    with served(
        [clone / "scripts" / "serve"], tmp_path, clean_environ(**offline_pip()), tmp_path / "log", 60
    ) as running:
        keeps_its_promise(running, clone)
    again = clean_environ(**offline_pip())
    with served([clone / "scripts" / "serve"], tmp_path, again, tmp_path / "log") as running:
        assert "Installing" not in running.said
        assert (clone / "var" / "first.key").read_text().strip() not in running.said


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_clone_serves_with_nothing_set_up(tmp_path: Path) -> None:
    """The same with nothing lent: the packages come from the index."""
    clone = clean_copy(tmp_path / "clone")
    any_port(clone / "config" / "sidegate.yaml")
    with served([clone / "scripts" / "serve"], clone, clean_environ(), tmp_path / "log", 800) as running:
        print(f"installed and ready after {running.seconds:.0f} s")  # noqa: T201
        keeps_its_promise(running, clone)


def keeps_its_promise(running: Served, clone: Path) -> None:
    """The first start shows a key, says where it listens, and gives a line that streams when it is pasted."""
    key = clone / "var" / "first.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert running.said.count(key.read_text().strip()) == 1
    command = "\n".join(running.said.partition("Try it:\n")[2].splitlines()[:3])
    assert command.lstrip().startswith("curl -N http://")
    assert any(streams(command, clone) for _ in range(3)), "it came all at once"
    tour = [block.text for block in blocks("sh", checked=False) if block.page == ROOT / "README.md"]
    for line in tour:
        assert answers(line.replace("http://127.0.0.1:8080", running.url), clone)
    assert len(tour) >= 2


def streams(command: str, cwd: Path) -> bool:
    """A shell that is given the line gets events one by one, and the last is the marker of the end."""
    process = subprocess.Popen(["sh", "-c", command], cwd=cwd, env=clean_environ(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        came = [(time.monotonic(), line) for line in process.stdout if line.startswith("data: ")]
    assert process.wait(30) == 0
    assert came[-1][1] == "data: [DONE]\n", came
    # A machine that stands still for a moment lets the reader find it all at once, too; hardly three times.
    return len(came) > 5 and came[-1][0] - came[0][0] > 0.2


def answers(command: str, cwd: Path) -> bool:
    said = run(["sh", "-c", command], cwd)
    return "[DONE]" in said or '"stop_reason":"' in said
