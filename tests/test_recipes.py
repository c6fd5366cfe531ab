"""Each recipe does what it says: its files are written, its commands run, and what they print is what stands there."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.tree import ROOT

RECIPES = sorted(path for path in (ROOT / "docs" / "recipes").glob("*.md") if path.name != "README.md")
SECONDS = 60
_STEP = re.compile(
    r"^<!-- (?P<kind>file|run|gives)(?:: (?P<name>[\w.-]+))? -->\n```\w+\n(?P<text>.*?)^```$", re.M | re.S
)
_OUTPUT_LINE = "..."
_ANYTHING = "…"


class Kitchen:
    """A folder of its own where a recipe is cooked, on ports of its own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._ports = {port: str(_free_port()) for port in ("8080", "8081", "9000")}
        tools = folder / "bin"
        tools.mkdir()
        for name, words in (("sidegate", "-m sidegate"), ("python", "")):
            tool = tools / name
            tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            tool.chmod(0o755)
        paths = os.pathsep.join(str(ROOT / part) for part in ("service", "plugins"))
        self.environ = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": paths}

    def write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(self._here(text))

    def run(self, text: str) -> str:
        """What the commands print. A gateway is left running."""
        words = self._here(text).split()
        if "sidegate serve" in text:
            self._wait(self._start(words))
            return ""
        if words[-1] == "&":
            self._start(words[:-1])
            return ""
        done = subprocess.run(
            ["sh", "-e", "-c", self._here(text)],
            cwd=self._folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return self._there(done.stdout.replace("\r\n", "\n"))

    def again(self, text: str, shown: str, printed: str) -> str:
        """A report has a call once it is written, a fifth of a second after its end: asked again until it has."""
        end = time.monotonic() + SECONDS
        while text.startswith("sidegate usage") and not fits(shown, printed) and time.monotonic() < end:
            printed = self.run(text)
        return printed

    def _start(self, words: list[str]) -> subprocess.Popen[bytes]:
        """In the background, until the recipe is over. Words before the command may set its environment."""
        given = dict(word.split("=", 1) for word in itertools.takewhile(lambda word: "=" in word, words))
        log = self._stack.enter_context((self._folder / "background.log").open("ab"))
        process = subprocess.Popen(
            words[len(given) :],
            cwd=self._folder,
            env={**self.environ, **given},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self._stack.callback(_end, process)
        return process

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + SECONDS
        while not self._ready():
            assert process.poll() is None, (self._folder / "background.log").read_text()
            assert time.monotonic() < end, "the gateway did not become ready"
            time.sleep(0.05)

    def _ready(self) -> bool:
        with suppress(OSError, urllib.error.URLError):
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports['8081']}/readyz", timeout=5) as reply:
                return bool(reply.status == 200)
        return False

    def _here(self, text: str) -> str:
        return re.sub(r"\b(8080|8081|9000)\b", lambda found: self._ports[found[0]], text)

    def _there(self, text: str) -> str:
        for shown, real in self._ports.items():
            text = text.replace(real, shown)
        return text


@contextmanager
def kitchen(folder: Path) -> Iterator[Kitchen]:
    with ExitStack() as stack:
        yield Kitchen(folder, stack)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_does_what_it_says(recipe: Path, tmp_path: Path) -> None:
    assert shutil.which("curl"), "curl is missing"
    printed = ran = ""
    steps = list(_STEP.finditer(recipe.read_text()))
    assert {"file", "run", "gives"} <= {step["kind"] for step in steps}
    with kitchen(tmp_path) as cook:
        for step in steps:
            match step["kind"]:
                case "file":
                    cook.write(step["name"], step["text"])
                case "run":
                    ran = step["text"]
                    printed = cook.run(ran)
                case _:
                    printed = cook.again(ran, step["text"], printed)
                    assert fits(step["text"], printed), f"{recipe.name} printed:\n{printed}"


def test_every_recipe_is_in_the_list() -> None:
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "recipes" / "README.md").read_text())
    assert sorted(listed) == [path.name for path in RECIPES]


def fits(shown: str, printed: str) -> bool:
    """Whether the lines stand there in this order; `...` is any lines, `…` any text of one."""
    pattern = ""
    for line in shown.splitlines():
        if line == _OUTPUT_LINE:
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(re.escape(part) for part in line.split(_ANYTHING)) + r"\n"
    return re.fullmatch(pattern + r"\s*", printed if printed.endswith("\n") else printed + "\n") is not None


@pytest.mark.parametrize(
    ("shown", "printed", "well"),
    [
        ("a\n...\nc\n", "a\nb\nb\nc\n", True),
        ("a\n...\nc\n", "a\nc\n", True),
        ("a…c\n", "abbc\n", True),
        ("a…c\n", "ab\nc\n", False),
        ("a\n", "a\nb\n", False),
        ("a\nb\n", "a\n", False),
        ("a.c\n", "abc\n", False),
    ],
)
def test_what_differs_is_seen(shown: str, printed: str, well: bool) -> None:
    assert fits(shown, printed) is well


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
