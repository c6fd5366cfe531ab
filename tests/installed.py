"""A clean copy of the repository, a virtual environment that sees what this one has, and a gateway run from them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.tree import ROOT

NEEDED = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "service", "plugins", "scripts", "config")
"""What a clone is installed and started from."""
READY_SECONDS = 30
STOP_SECONDS = 20


def clean_copy(to: Path) -> Path:
    """What a fresh clone has of the working tree, without anything a build or a run left behind."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
    to.mkdir(parents=True, exist_ok=True)
    for name in NEEDED:
        found = ROOT / name
        if found.is_dir():
            shutil.copytree(found, to / name, ignore=ignored)
        elif found.exists():
            shutil.copy2(found, to)
    return to


def any_port(config: Path) -> Path:
    """The config with free ports, so that a gateway that already runs here is in nobody's way."""
    text, changed = re.subn(r"port: 808[01]\b", "port: 0", config.read_text())
    assert changed == 2
    config.write_text(text)
    return config


def clean_environ(**more: str) -> dict[str, str]:
    """The environment without what leads Python or the gateway back to this repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_", "COV"))}
    return {name: value for name, value in kept.items() if not name.endswith("_API_KEY")} | more


def offline_pip() -> dict[str, str]:
    """pip takes what is there, and asks nobody for more."""
    return {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_CONFIG_FILE": os.devnull}


def lend_packages(venv: Path) -> None:
    """Let a virtual environment see the packages that the tests run with, but not the gateway itself.

    A directory named in a `.pth` file is searched; `.pth` files in it, such as an editable install's, are not read.
    """
    (site,) = venv.glob("lib/python*/site-packages")
    # Python 3.11's venv brings an old setuptools of its own, which would be found first.
    for bundled in (*site.glob("setuptools*"), *site.glob("pkg_resources")):
        shutil.rmtree(bundled)
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")


def make_venv(path: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True, timeout=60)
    lend_packages(path)
    return path


def run(command: Sequence[str | Path], cwd: Path, **more: str) -> str:
    """Run it to its end, which must be a good one; gives what it said on both streams."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=clean_environ(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
    return done.stdout


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway of its own process that is ready."""

    url: str
    said: str
    """What it said on the terminal until then."""
    seconds: float
    """From the start of the process until `/readyz` was 200."""
    log: Path
    pid: int


@contextmanager
def served(
    command: Sequence[str | Path], cwd: Path, environ: Mapping[str, str], log: Path, ready: float = READY_SECONDS
) -> Iterator[Served]:
    """Run a gateway until the end of the block, then stop it by its process id and look at how it ended."""
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen([str(word) for word in command], cwd=cwd, env=environ, stdout=out, stderr=out)
    try:
        url = _listening(process, log, began + ready)
        while status(f"{url}/readyz") != 200:
            assert time.monotonic() < began + ready, log.read_text()
            time.sleep(0.02)
        yield Served(url, log.read_text(), time.monotonic() - began, log, process.pid)
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _listening(process: subprocess.Popen[bytes], log: Path, until: float) -> str:
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r" is ready: (http://\S+)", log.read_text()):
            # Bound to every address, it is reached by the one of this machine.
            return found[1].replace("//0.0.0.0:", "//127.0.0.1:")
        time.sleep(0.02)
    raise AssertionError(f"exit code {process.poll()}\n{log.read_text()}")


def status(url: str) -> int:
    """The HTTP status; 0 where nobody answers."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as response:
            code: int = response.status
            return code
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0
