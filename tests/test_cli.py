"""The command line: what it prints, on which stream, and with which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, Annotated, Any

import pytest
from msgspec import Meta, Struct

import sidegate
from sidegate import finder
from sidegate.cli import main
from sidegate.config import Loaded
from sidegate.contract import Observer, Plugin
from sidegate.errors import ConfigError


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(description="Who calls.")]
    digest: str = ""
    others: tuple[Key, ...] = ()


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    rpm: Annotated[int, Meta(ge=1, description="Calls a minute.")]
    keys: tuple[Key, ...] = ()
    api_key: str = ""
    url: str = ""
    note: str = "a note"


class Limit(Plugin[Settings]):
    """Limits calls."""


class Watch(Observer[None]):
    """Watches."""


POINTS = (("limit", f"{__name__}:Limit"), ("watch", f"{__name__}:Watch"), ("gone", "nothing_here:Gone"))

CONFIG = """
providers:
  openai: {dialect: openai, api_key: "${OPENAI_API_KEY}", headers: {x-auth-token: hunter2-header, x-team: a}}
  local: {dialect: openai, base_url: http://127.0.0.1:11434/v1}
models:
  gpt: [{provider: openai, model: gpt-4o}, {provider: local}]
  "llama-*": {provider: local}
pipelines:
  main:
    plugins:
      - use: watch
      - use: limit
        settings:
          rpm: ${RPM:-30}
          api_key_file: key
          keys: [{name: alice, digest: hunter2-digest}]
          url: redis://user:hunter2-url@redis.example/0
          note: the key is ${OPENAI_API_KEY} here
    attempt:
      - {use: watch, name: each}
  free: {}
routes:
  - {name: free, prefix: /free, pipeline: free, operations: [chat, models]}
  - {name: all, pipeline: main}
"""

EXPLAINED = """\
listen  127.0.0.1:8080
admin   127.0.0.1:8081
state   {base}/var
ledger  sqlite:///{base}/var/sidegate.db

route free: /free (chat, models) -> pipeline free
  when the client leaves: cancel
  no plugins

route all: / (all operations) -> pipeline main
  when the client leaves: cancel
  1.  watch  observer
  2.  limit  guard     rpm: 30, keys: [{{"name": "alice", "digest": "***", "others": []}}], api_key: ***,
                       url: "redis://***@redis.example/0", note: "the key is *** here"
  for each attempt
    1.  each  observer

models
  gpt      ->  openai gpt-4o, then local gpt
  llama-*  ->  local (the name asked for)

providers
  openai  openai  https://api.openai.com/v1   key: set
  local   openai  http://127.0.0.1:11434/v1  key: none

other settings
  providers.openai.headers.x-auth-token  ***
  providers.openai.headers.x-team        ***

warnings
  providers.local: has no api_key; calls are sent without one
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points and a key that are these tests' own."""
    points = EntryPoints(EntryPoint(name, value, finder.GROUP) for name, value in POINTS)
    monkeypatch.setattr(finder, "entry_points", lambda **wanted: points.select(**wanted))
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2-env")
    monkeypatch.delenv("RPM", raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "key").write_text("hunter2-file\n")
        path = tmp_path / "sidegate.yaml"
        path.write_text(text)
        return str(path)

    return write


class Ran(Struct, frozen=True):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def run(*arguments: str) -> Ran:
        code = main(arguments)
        ran = Ran(code, *capsys.readouterr())
        assert "hunter2" not in ran.out + ran.err
        assert "Traceback" not in ran.err
        return ran

    return run


# --- check ------------------------------------------------------------------------------------------------------------


def test_a_right_config_is_ok_with_its_warnings(run: Callable[..., Ran], config: Callable[[str], str]) -> None:
    path = config(CONFIG)
    assert run("check", path) == Ran(
        0, f"{path}: ok\n", "warning: providers.local: has no api_key; calls are sent without one\n"
    )


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("providers:", "provider:", "unknown field `provider`, did you mean `providers`?"),
        ("http://127.0.0.1:11434/v1", "127.0.0.1:11434", "providers.local.base_url: expected a URL with http:// or"),
        ("http://", "http://hunter2@", "providers.local.base_url: credentials do not belong into a URL"),
        ("${OPENAI_API_KEY}", "${OPENAI_KEY}", "providers.openai.api_key: the environment variable OPENAI_KEY is not"),
        ("name: all,", "name: free,", "routes[1].name: another route has the name `free`"),
        ("name: all,", "name: all, prefix: /free, operations: [chat],", "routes[1]: is never reached"),
        ("x-team: a", '"x-team": "a\\r\\nx: y"', "providers.openai.headers.x-team: a value is printable ASCII"),
        (
            "models:\n",
            "  d: {dialect: demo, settings: {fial: 1}}\nmodels:\n",
            "providers.d.settings: unknown field `fial`",
        ),
        ("name: free,", 'name: "(",', "routes[0].name: Expected str matching regex"),
        ("rpm: ${RPM:-30}", "rpm: 0", "pipelines.main[1].settings: Expected int >= 1 - at $.rpm"),
        ("rpm: ${RPM:-30}", "", "pipelines.main[1].settings: missing required field `rpm`"),
        ("rpm: ${RPM:-30}", "rpm: ${RPM:-x}", "pipelines.main[1].settings: Expected int, got str - at $.rpm"),
        ("key\n", "keys\n", "pipelines.main[1].settings: the file cannot be read: No such file or directory"),
        ("use: limit", "use: limits", "pipelines.main[1].use: no plugin `limits` is installed, did you mean `limit`?"),
        ("use: limit", "use: acme:Limit", "pipelines.main[1].use: cannot import acme: No module named 'acme'"),
        ("digest: hunter2", "digset: hunter2", "pipelines.main[1].settings: unknown field `digset`, did you mean `dig"),
    ],
)
def test_a_wrong_config_is_one_line_and_exit_2(
    run: Callable[..., Ran], config: Callable[[str], str], old: str, new: str, line: str
) -> None:
    assert old in CONFIG
    path = config(CONFIG.replace(old, new))
    for command in ("check", "explain"):
        ran = run(command, path)
        assert (ran.code, ran.out) == (2, "")
        assert any(each.startswith(line) for each in ran.err.splitlines())


def test_a_config_that_is_not_there_is_one_line_and_exit_2(run: Callable[..., Ran], tmp_path: Path) -> None:
    for command in ("check", "explain", "serve"):
        assert run(command, str(tmp_path / "none.yaml")) == Ran(
            2, "", f"{tmp_path}/none.yaml: cannot be read: No such file or directory\n"
        )


# --- explain ----------------------------------------------------------------------------------------------------------


def test_explain_shows_what_a_config_comes_to(run: Callable[..., Ran], config: Callable[[str], str]) -> None:
    path = config(CONFIG)
    ran = run("explain", path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"config  {path}\n")
    expected = EXPLAINED.format(base=Path(path).parent)
    assert ran.out.split()[2:] == expected.split()
    assert max(len(line) for line in ran.out.splitlines() if path not in line) <= 110


def test_explain_shows_what_is_set_besides(run: Callable[..., Ran], config: Callable[[str], str]) -> None:
    more = """
jobs: {}
counters: {url: "redis://user:hunter2-counters@redis.example/0", timeout: 0.2}
listen: {port: 8090, cors: {origins: [https://app.example.com]}}
server: {drain: 3}
"""
    routed = "{name: all, pipeline: main, default_model: gpt, timeouts: {total: 90}}"
    changed = CONFIG.replace("{name: all, pipeline: main}", routed).replace(
        "11434/v1}", "11434/v1, completions: false}"
    )
    path = config(changed + more)
    ran = run("explain", path)
    assert (ran.code, ran.err) == (0, "")
    section = ran.out[ran.out.index("other settings") : ran.out.index("warnings")]
    assert [line.split(maxsplit=1) for line in section.splitlines()[1:-1]] == [
        ["listen.cors.origins", '["https://app.example.com"]'],
        ["server.drain", "3.0"],
        ["counters.url", '"redis://***@redis.example/0"'],
        ["counters.timeout", "0.2"],
        ["jobs", "{}"],
        ["providers.openai.headers.x-auth-token", "***"],
        ["providers.openai.headers.x-team", "***"],
        ["providers.local.completions", "false"],
        ["routes.all.timeouts.total", "90.0"],
        ["routes.all.default_model", "gpt"],
    ]
    assert json.loads(run("explain", "--json", path).out)["settings"]["jobs"] == {}


def test_explain_speaks_json(run: Callable[..., Ran], config: Callable[[str], str]) -> None:
    ran = run("explain", "--json", config(CONFIG))
    explained = json.loads(ran.out)
    limit = explained["pipelines"]["main"]["plugins"][1]
    assert limit["class"] == f"{__name__}:Limit"
    assert limit["settings"]["api_key"] == "***"
    assert limit["settings"]["rpm"] == 30
    assert explained["providers"]["openai"]["headers"] == {"x-auth-token": "***", "x-team": "a"}
    assert explained["models"]["llama-*"] == [{"provider": "local", "model": None}]
    assert explained["routes"][1]["operations"] is None


# --- plugins ----------------------------------------------------------------------------------------------------------


def test_plugins_lists_what_is_there_and_says_what_is_broken(run: Callable[..., Ran]) -> None:
    ran = run("plugins")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "gone   broken",
        "limit  guard     Limits calls.",
        "watch  observer  Watches.",
    ]
    assert ran.err.startswith("gone: cannot import nothing_here: No module named 'nothing_here'")


def test_one_plugin_is_shown_with_its_settings(run: Callable[..., Ran]) -> None:
    ran = run("plugins", "limit")
    assert ran.code == 0
    assert [line.split(maxsplit=1)[0] for line in ran.out.splitlines()[5:]] == [
        "setting",
        "rpm",
        "keys",
        "keys[].name",
        "keys[].digest",
        "keys[].others",
        "api_key",
        "url",
        "note",
    ]
    assert "rpm            integer >= 1    required  Calls a minute." in ran.out
    assert 'note           string          "a note"' in ran.out
    assert run("plugins", "watch").out.splitlines()[0] == f"watch (observer), {__name__}:Watch"


def test_plugins_speak_json(run: Callable[..., Ran]) -> None:
    assert [plugin["name"] for plugin in json.loads(run("plugins", "--json").out)] == ["gone", "limit", "watch"]
    limit = json.loads(run("plugins", "limit", "--json").out)
    assert limit["schema"]["$defs"]["Settings"]["properties"]["rpm"]["minimum"] == 1
    assert limit["deliveries"] == ["buffered", "job", "stream"]


def test_an_unknown_plugin_is_one_line_and_exit_2(run: Callable[..., Ran]) -> None:
    assert run("plugins", "limt") == Ran(2, "", "no plugin `limt` is installed, did you mean `limit`?\n")
    assert run("plugins", "gone").code == 2


# --- serve ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A gateway that only writes down the config it is started with; put an exception there and it is raised."""
    seen: list[Any] = []

    def serve(loaded: Loaded, announce: Callable[[Any], None]) -> int:
        if seen:
            raise seen[0]
        seen.append(loaded)
        announce(
            SimpleNamespace(
                url="http://127.0.0.1:1",
                urls=["http://127.0.0.1:1"],
                admin_urls=["http://127.0.0.1:2"],
                settings=loaded.settings,
                service=SimpleNamespace(told=["a plugin says this"], catalogue=SimpleNamespace(names=("fast",))),
            )
        )
        return 0

    module = ModuleType("sidegate.gateway")
    module.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sidegate.gateway", module)
    return seen


def test_serve_reads_the_config_and_says_where_it_listens(
    run: Callable[..., Ran], config: Callable[[str], str], served: list[Any]
) -> None:
    ran = run("serve", config(CONFIG))
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.splitlines() == [
        "warning: providers.local: has no api_key; calls are sent without one",
        f"Sidegate {sidegate.__version__} is ready: http://127.0.0.1:1  (metrics and health: http://127.0.0.1:2)",
        "  console: http://127.0.0.1:2/console",
        "  a plugin says this",
        "",
        "Try it:",
        "  curl -N http://127.0.0.1:1/v1/chat/completions \\",
        """    -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \\""",
        """    -d '{"model":"fast","stream":true,"messages":[{"role":"user","content":"Hello"}]}'""",
    ]
    assert served[0].settings.providers["openai"].api_key == "hunter2-env"


def test_serve_takes_the_config_of_the_working_folder(
    run: Callable[..., Ran], served: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("serve") == Ran(2, "", "no config: name one, or write config/sidegate.yaml\n")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/sidegate.yaml").write_text(CONFIG)
    assert run("serve").code == 0
    assert served[0].base == tmp_path / "config"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("listen", "port 80 is taken"), 2, "listen: port 80 is taken\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_serve_ends_with_the_code_of_its_end(
    run: Callable[..., Ran],
    config: Callable[[str], str],
    served: list[Any],
    error: BaseException,
    code: int,
    text: str,
) -> None:
    served.append(error)
    ran = run("serve", config(CONFIG))
    assert ran.code == code
    assert ran.err.endswith(text)


# --- as a process -----------------------------------------------------------------------------------------------------


def process(
    *arguments: str, before: Sequence[str] = (), stdout: IO[str] | int = subprocess.PIPE, **environ: str
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(part for part in sys.path if part)
    return subprocess.run(
        [*before, sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": path} | environ,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_version_is_told() -> None:
    ran = process("-m", "sidegate", "--version")
    assert (ran.returncode, ran.stdout) == (0, f"sidegate {sidegate.__version__}\n")


def test_no_command_is_a_mistake_and_help_is_not() -> None:
    ran = process("-m", "sidegate")
    assert ran.returncode == 2
    assert "COMMAND" in ran.stderr
    assert process("-m", "sidegate", "prices").returncode == 2
    assert process("-m", "sidegate", "--help").returncode == 0


def test_a_check_loads_no_server_and_no_json_schema(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    demo = {"providers": {"d": {"dialect": "demo"}}, "models": {"d": {"provider": "d"}}, "pipelines": {"p": {}}}
    path.write_text(json.dumps(demo))
    code = (
        f"import sys; from sidegate.cli import main; assert main(['check', {str(path)!r}]) == 0; "
        "print(sorted({'aiohttp', 'yaml', 'jsonschema', 'prometheus_client'} & set(sys.modules)))"
    )
    ran = process("-c", code)
    assert (ran.stdout, ran.stderr) == (f"{path}: ok\n[]\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_output_that_cannot_be_written_is_said_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        ran = process("-m", "sidegate", "plugins", stdout=full)
    assert ran.returncode == 2
    assert ran.stderr == "what was asked for cannot be written: No space left on device\n"


@pytest.mark.parametrize("words", [["check"], ["explain"], ["usage", "--format", "json"]], ids=" ".join)
def test_a_command_without_an_output_does_its_work(tmp_path: Path, words: list[str]) -> None:
    """`sidegate check >&-`, as some that run services do."""
    path = tmp_path / "sidegate.yaml"
    path.write_text("providers: {demo: {dialect: demo}}\nmodels: {demo: {provider: demo}}\npipelines: {main: {}}\n")
    (tmp_path / "var").mkdir()
    assert process("-m", "sidegate", "migrate", str(path)).returncode == 0
    ran = process("-m", "sidegate", words[0], str(path), *words[1:], before=("sh", "-c", 'exec "$0" "$@" >&-'))
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_reader_that_leaves_is_no_mistake(tmp_path: Path) -> None:
    """`sidegate plugins | head -0`."""
    read, write = os.pipe()
    os.close(read)
    ran = process("-m", "sidegate", "plugins", stdout=write)
    os.close(write)
    assert ran.returncode == 0
    assert "BrokenPipe" not in ran.stderr
