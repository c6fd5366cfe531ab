"""What holds the house together: layers, imports without effects, sizes, and the list of packages."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.tree import ROOT, SOURCES, below, imports, listed, modules, parsed, python_files

ALLOWED_TO_PLUGINS = {"contract", "errors"}
SHIPPED = ("service", "plugins", "scripts", "bench", "examples")
NO_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}

ALONE = """
import importlib, os, sys, threading
import aiohttp.web, aiohttp_sse, jsonschema, msgspec, prometheus_async.aio.web, prometheus_client, yaml

loud = ("socket.", "subprocess.", "os.exec", "os.fork", "os.mkdir", "os.posix_spawn", "os.remove", "os.rename",
        "os.system", "_thread.start", "shutil.", "sqlite3.connect", "tempfile.")
seen = []

def watch(event, arguments):
    if event.startswith(loud):
        seen.append(event)
    elif event == "open" and isinstance(arguments[0], str):
        path, mode = arguments[:2]
        read = path.endswith((".py", ".pyc", ".so", ".zip", "METADATA"))
        if not read or set(mode or "") & set("wxa+"):
            seen.append(f"open {path}")

below = []
for name in sys.argv[1:]:
    if name == "/":
        for known in below:
            importlib.import_module(known)
        below.clear()
        continue
    below.append(name)
    child = os.fork()
    if not child:
        sys.addaudithook(watch)
        threading.Thread.start = lambda thread: seen.append("a thread")
        try:
            importlib.import_module(name)
        except BaseException as error:
            seen.append(repr(error))
        if seen:
            print(name, seen[:4], flush=True)
        os._exit(0)
    os.waitpid(child, 0)
print("done")
"""
"""Imports each module in a process that has imported none of ours but those before the last `/`; says which failed or
had an effect."""


# --- layers -----------------------------------------------------------------------------------------------------------


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(root / folder) for folder in ("service", "plugins"))
    linter = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(linter), "--no-cache", "--no-logo", "--config", str(root / "setup.cfg")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_imports_go_downwards() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("service/sidegate/contract/reply.py", "import sidegate.wire.sse", "Imports go downwards"),
        ("service/sidegate/wire/sse.py", "from sidegate.upstream import router", "Imports go downwards"),
        ("service/sidegate/counters/rates.py", "import sidegate.telemetry.logs", "Imports go downwards"),
        ("service/sidegate/http/admin/answers.py", "import sidegate.http.app", "No modules import each other"),
        ("service/sidegate/newcomer.py", "", "Imports go downwards"),
        ("service/sidegate/loader.py", "import sidegate_plugins.log", "The gateway imports no plugin"),
        ("plugins/sidegate_plugins/log.py", "import sidegate.settings", "Plugins import the contract"),
        ("plugins/sidegate_plugins/_keys.py", "from sidegate.wire import sse", "Plugins import the contract"),
    ],
    ids=["up", "far-up", "sideways", "circle", "no-layer", "privilege", "plugin", "plugin-part"],
)
def test_a_wrong_import_is_found(tmp_path: Path, module: str, line: str, broken: str) -> None:
    for folder in SOURCES.values():
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(folder, tmp_path / folder.relative_to(ROOT), ignore=ignored)
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stderr
    said = [text.removesuffix(" (1 ignored import)") for text in done.stdout.splitlines()]
    assert any(text.startswith(broken) and text.endswith("BROKEN") for text in said), done.stdout


def test_plugins_are_kept_from_all_but_the_contract() -> None:
    parts = {name.split(".")[1] for name in modules() if name.startswith("sidegate.")}
    forbidden = set(listed("importlinter:contract:plugins", "forbidden_modules"))
    assert forbidden == {f"sidegate.{part}" for part in parts - ALLOWED_TO_PLUGINS}


SERVERS = ("aiohttp", "aiohttp_sse", "prometheus_async")
CALLERS = ("aiohappyeyeballs", "httptools", "yarl")
TRANSPORT = {f"sidegate.upstream.{name}" for name in ("destination", "dialer", "reader")}
SOCKET = "sidegate.upstream.socket"
"""WebSockets to providers, by aiohttp's client, where a route serves Realtime."""
ASKING = "sidegate.testing.asking"
"""A client, for tests of plugins."""


def test_only_http_serves_and_only_the_transport_calls() -> None:
    for name, path in modules().items():
        used = {each for each in imports(path) if below(each, *SERVERS, *CALLERS)}
        if below(name, "sidegate.http"):
            assert not {each for each in used if below(each, "aiohttp.client", *CALLERS)}
            assert not {each for each in used if each.startswith("aiohttp.Client")}
            assert not any(lends_everything(path, "aiohttp")), f"{name}: name what is wanted of aiohttp"
        elif name in TRANSPORT:
            assert not {each for each in used if below(each, *SERVERS)}
        elif name in (SOCKET, ASKING):
            assert not {each for each in used if below(each, "aiohttp.web", *SERVERS[1:], *CALLERS)}
        else:
            assert not used, name


def lends_everything(path: Path, module: str) -> Iterator[bool]:
    """True for each `import module`."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield any(alias.name == module for alias in node.names)


def test_plugins_open_no_connection_of_their_own() -> None:
    outward = ("aiohttp", "httpx", "requests", "socket", "urllib.request", "http.client")
    for path in python_files("plugins"):
        assert not {each for each in imports(path) if below(each, *outward)}, path


# --- imports ----------------------------------------------------------------------------------------------------------


def from_below() -> list[str]:
    """The modules by their layers, the lowest first, a `/` between them: what is below imports nothing from above."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    layers = reversed(config["importlinter:contract:layers"]["layers"].split("\n"))
    tops = [[f"sidegate.{top.strip()}" for top in layer.split("|")] for layer in layers if layer.strip()]
    names: list[str] = []
    for layer in (*tops, ["sidegate_plugins"]):
        within = tuple(f"{top}." for top in layer)
        names += [*(name for name in modules() if f"{name}.".startswith(within) and not name.endswith("__main__")), "/"]
    return ["sidegate", "/", *names]


def test_every_module_imports_alone_and_without_effect() -> None:
    paths = os.pathsep.join(str(folder.parent) for folder in SOURCES.values())
    names = from_below()
    assert {*names} - {"/"} == {name for name in modules() if not name.endswith("__main__")}
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", ALONE, *names],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("import socket; socket.socket()", "socket"),
        ("import threading; threading.Thread(target=print).start()", "a thread"),
        ("open('/etc/hostname')", "/etc/hostname"),
        ("import nothing_of_the_kind", "ModuleNotFoundError"),
    ],
)
def test_an_effect_of_an_import_is_seen(tmp_path: Path, line: str, seen: str) -> None:
    (tmp_path / "loud.py").write_text(line)
    done = subprocess.run(
        [sys.executable, "-B", "-c", ALONE, "loud"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout.startswith("loud ["), done.stderr
    assert seen in done.stdout


# --- packages ---------------------------------------------------------------------------------------------------------


def test_every_package_is_listed() -> None:
    packages = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert sorted(packages) == listed("options", "packages")


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in modules().values()}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_types_are_shipped() -> None:
    for package, folder in SOURCES.items():
        assert (folder / "py.typed").exists()
        assert "py.typed" in listed("options.package_data", package)[0]


def test_the_plan_of_the_house_has_every_room() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([\w/*]+(?:\.py)?)`", row)}
    folder = SOURCES["sidegate"]
    rooms = {path.name for path in folder.glob("*.py") if not path.name.startswith("__")}
    rooms |= {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    assert {room for room in rooms if not any(fnmatch(room, name) for name in named)} == set()


# --- sizes and names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folders", "file_lines", "function_lines"), [(SHIPPED, 350, 60), (("tests",), 800, 80)], ids=["shipped", "tests"]
)
def test_nothing_is_longer_than_a_sitting(folders: tuple[str, ...], file_lines: int, function_lines: int) -> None:
    """Bounds, not aims; those of the tests leave room for tables."""
    long = []
    for path in python_files(*folders):
        lines = len(path.read_text().splitlines())
        long += [f"{path}: {lines}"] if lines > file_lines else []
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                long += [f"{path}:{node.lineno} {node.name}: {lines}"] if lines > function_lines else []
    assert long == []


def test_names_say_what_things_are() -> None:
    for path in python_files(*SHIPPED, "tests"):
        assert path.stem not in NO_NAMES, path
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                assert not node.name.endswith(("Manager", "Helper", "Mixin")), f"{path}: {node.name}"


@pytest.mark.parametrize("name", sorted(modules()))
def test_every_module_says_what_it_is_for(name: str) -> None:
    path = modules()[name]
    if name != "sidegate_plugins" and path.read_text().strip():
        assert ast.get_docstring(parsed(path)), path
