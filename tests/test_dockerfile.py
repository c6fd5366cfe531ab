"""The Dockerfile, as far as it can be tried without Docker.

Tried: the builder's COPY and RUN lines, in a folder and an environment of their own; the config of CMD, served by what
they installed; the health check's command against it. Only read: the last stage's user, volume and entry point. Not
tried: the base image, its `useradd` and `install`, layers, ownership in volumes, a read-only root: they need Docker.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.installed import clean_copy, clean_environ, lend_packages, offline_pip, run, served, status
from tests.tree import ROOT

HOME = "/opt/sidegate"
CONFIG = "/config/sidegate.yaml"


@dataclass
class Stage:
    """What stands between one FROM and the next."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [rest for name, rest in self.steps if name == instruction]

    def one(self, instruction: str) -> str:
        (rest,) = self.all(instruction)
        return rest


def stages() -> list[Stage]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: list[Stage] = []
    for line in text.replace("\\\n", " ").splitlines():
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            found.append(Stage(rest))
        elif found and name:
            found[-1].steps.append((name, " ".join(rest.split())))
    return found


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for the image's root, made by the steps of the builder and the last stage's COPY."""
    root = tmp_path_factory.mktemp("image")
    context = clean_copy(root / "context")
    builder, last = stages()
    work = root
    for name, rest in builder.steps:
        if name == "WORKDIR":
            work = root / rest.lstrip("/")
            work.mkdir(parents=True)
        elif name == "COPY":
            copy(context, rest.split(), work)
        elif name == "RUN":
            run(["sh", "-c", rest.replace(HOME, str(root) + HOME)], work, **offline_pip())
            if "-m venv" in rest:
                lend_packages(root / HOME.lstrip("/"))
    for rest in last.all("COPY"):
        if not rest.startswith("--from="):
            copy(context, rest.split(), root)
    return root


def copy(context: Path, words: list[str], to: Path) -> None:
    """`COPY source... target`: of a folder its contents, of a file the file."""
    *sources, target = words
    for name in sources:
        source = context / name
        place = to / target.lstrip("/") if not target.endswith("/") else to / target / source.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, dirs_exist_ok=True)
        else:
            shutil.copy2(source, place)


def inside(image: Path, name: str) -> Path:
    return image / name.lstrip("/")


# --- what it does -----------------------------------------------------------------------------------------------------


def test_the_builder_makes_an_environment_of_its_own(image: Path, tmp_path: Path) -> None:
    binaries = inside(image, HOME) / "bin"
    assert run([binaries / "sidegate", "--version"], tmp_path).startswith("sidegate ")
    where = run([binaries / "python", "-c", "import sidegate; print(sidegate.__file__)"], tmp_path)
    assert where.startswith(str(inside(image, HOME)))
    assert not list(binaries.glob("pip*"))


def test_the_config_of_the_image_is_right(image: Path, tmp_path: Path) -> None:
    _, last = stages()
    command = [*json.loads(last.one("ENTRYPOINT")), *json.loads(last.one("CMD"))]
    assert command == ["sidegate", "serve", CONFIG]
    assert ": ok" in run([inside(image, HOME) / "bin" / "sidegate", "check", inside(image, CONFIG)], tmp_path)


def test_it_serves_and_the_health_check_sees_it(image: Path, tmp_path: Path) -> None:
    config = read_config(image)
    assert (config["listen"]["host"], config["state"]) == ("0.0.0.0", "/data")
    config |= {"listen": {"host": "0.0.0.0", "port": 0}, "admin": None, "state": str(tmp_path / "data")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    binaries = inside(image, HOME) / "bin"
    command = (binaries / "sidegate", "serve", tmp_path / "config.yaml")
    plugins = {"PYTHONPATH": str(tmp_path / "plugins"), "PYTHONDONTWRITEBYTECODE": "1"}
    with served(command, tmp_path, clean_environ(**plugins), tmp_path / "log") as running:
        assert status(f"{running.url}/readyz") == 200
        assert health(binaries, f"{running.url}/livez", tmp_path) == 0
        assert health(binaries, f"{running.url}/nowhere", tmp_path) == 1
    assert health(binaries, f"{running.url}/livez", tmp_path) == 1


def read_config(image: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(inside(image, CONFIG).read_text())
    return found


def health(binaries: Path, url: str, cwd: Path) -> int:
    """The exit code of the very command, with a proxy in the environment that would swallow it."""
    _, last = stages()
    executable, *words = json.loads(last.one("HEALTHCHECK").partition(" CMD ")[2])
    environ = clean_environ(SIDEGATE_HEALTH=url, http_proxy="http://127.0.0.1:1", no_proxy="")
    done = subprocess.run([str(binaries / executable), *words], cwd=cwd, env=environ, capture_output=True, timeout=30)
    return done.returncode


def test_a_plugin_beside_the_image_is_found(image: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from sidegate.contract import Plugin\n\n\nclass Mine(Plugin[None]):\n    '''Mine.'''\n"
    )
    config = {**read_config(image), "pipelines": {"default": {"plugins": [{"use": "mine:Mine"}]}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert environment()["PYTHONPATH"] == "/plugins"
    command = (inside(image, HOME) / "bin" / "sidegate", "check", tmp_path / "config.yaml")
    assert ": ok" in run(command, tmp_path, PYTHONPATH=str(tmp_path))


def environment() -> dict[str, str]:
    """ENV of the last stage."""
    _, last = stages()
    pairs = (word.partition("=") for line in last.all("ENV") for word in shlex.split(line))
    return {name: value for name, _, value in pairs}


# --- what it says -----------------------------------------------------------------------------------------------------


def test_both_stages_stand_on_one_python() -> None:
    builder, last = stages()
    assert builder.base == f"{last.base} AS builder"
    default = re.search(r"^ARG PYTHON=(\d+\.\d+)-slim$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert default
    assert tuple(int(part) for part in default[1].split(".")) >= (3, 11)


def test_it_runs_as_a_user_that_is_not_root() -> None:
    _, last = stages()
    user, _, group = last.one("USER").partition(":")
    assert int(user) == int(group) >= 10_000, "a number: Kubernetes' runAsNonRoot cannot read names"
    made = last.all("RUN")[0]
    assert f"--uid {user}" in made
    assert f"--owner {user} --group {group} --mode 0700 /data" in made
    names = [name for name, _ in last.steps]
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])


def test_only_the_data_is_written() -> None:
    _, last = stages()
    assert last.one("VOLUME") == "/data" == last.one("WORKDIR")
    assert environment()["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_last_stage_has_no_build_tools() -> None:
    _, last = stages()
    assert not re.search(r"\b(apt|apt-get|apk|pip|gcc|make|curl|git)\b", " ".join(last.all("RUN")))
    (copied,) = (rest for rest in last.all("COPY") if rest.startswith("--from="))
    assert copied == f"--from=builder {HOME} {HOME}"
    assert environment()["PATH"].split(":")[0] == f"{HOME}/bin"


def test_the_ports_are_those_of_its_config() -> None:
    _, last = stages()
    config = yaml.safe_load((ROOT / "config" / "container.yaml").read_text())
    assert last.one("EXPOSE").split() == [str(config["listen"]["port"]), str(config["admin"]["port"])]
    assert environment()["SIDEGATE_HEALTH"] == f"http://127.0.0.1:{config['listen']['port']}/livez"


def test_what_is_copied_is_not_ignored() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    kept = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        word for stage in stages() for rest in stage.all("COPY") if "--from" not in rest for word in rest.split()[:-1]
    }
    assert kept == copied
    assert all((ROOT / name).exists() for name in kept)
