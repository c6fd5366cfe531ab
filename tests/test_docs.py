"""What is said is true: blocks of the manual work, and what it names exists."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from inspect import isawaitable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from msgspec import inspect
from prometheus_client import generate_latest

from sidegate import cli
from sidegate.config import read_mapping
from sidegate.config.strict_yaml import parse
from sidegate.contract import Call, Plugin, Reply
from sidegate.loader import load
from sidegate.null_host import null_host
from sidegate.settings import Settings
from sidegate.telemetry.certificates import Certificates
from sidegate.telemetry.metrics import Metrics
from sidegate.telemetry.reloads import Reloads
from sidegate.testing import drive, host, says
from sidegate.testing.drive import KeptEvents
from sidegate_plugins.cache import Cache
from sidegate_plugins.cache import Settings as CacheSettings
from tests.pages import PAGES, Block, anchors, blocks, commands, inline, prose
from tests.tree import ROOT, python_files

SETTINGS = inspect.type_info(Settings)
LABELS = {"gen_ai_operation_name", "gen_ai_request_model", "gen_ai_provider_name", "gen_ai_token_type"}
FOLDERS = ("bench", "config", "docs", "examples", "plugins", "scripts", "service", "tests")
by_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def each_block(*languages: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", blocks(*languages), ids=str)


# --- generated pages --------------------------------------------------------------------------------------------------


def test_the_reference_is_what_the_code_says() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "reference.py"))["page"]()
    assert (ROOT / "docs" / "configuration.md").read_text() == written, "run scripts/docs"


def test_the_table_of_translation_is_what_the_code_goes_by() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "translation.py"))["page"]()
    assert (ROOT / "docs" / "dialects" / "translation.md").read_text() == written, "run scripts/docs"


def test_every_setting_says_what_it_means() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE)
    assert [name for name, meaning in rows if not meaning.strip()] == []


# --- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("acme_shout")
@each_block("yaml")
def test_a_config_block_loads(block: Block, tmp_path: Path) -> None:
    data = parse(block.text)
    uses = isinstance(data, list) and all("use" in item for item in data)
    config = {"pipelines": {"main": {"plugins": data}}} if uses else data
    assert isinstance(config, dict), "say why it is not checked"
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", block.text), "a-value-that-is-long-enough")
    loaded = read_mapping(completed(config), environ, tmp_path)
    load(loaded.settings, null_host(loaded.settings), loaded.base)


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """An extract with what a whole config needs besides."""
    models = config.get("models") or {"demo": {"provider": "demo"}}
    named = {target["provider"] for target in targets(models)}
    pipelines = config.get("pipelines") or {route["pipeline"]: {} for route in config.get("routes", ())}
    return {
        "providers": {name: {"dialect": "demo"} for name in named or {"demo"}},
        "routes": [{"name": name, "prefix": f"/{name}", "pipeline": name} for name in pipelines],
        **config,
        "models": models,
        "pipelines": pipelines or {"main": {}},
    }


def targets(found: Any) -> Iterator[Mapping[str, Any]]:
    """The mappings that name a provider, however deep."""
    if isinstance(found, Mapping):
        if "provider" in found:
            yield found
        found = list(found.values())
    if isinstance(found, list):
        for inner in found:
            yield from targets(inner)


def test_blocks_of_data_can_be_parsed() -> None:
    for block in blocks("json"):
        json.loads(block.text)
    for block in blocks("toml"):
        tomllib.loads(block.text)


@each_block("sh", "console", "bash", "shell")
def test_a_shell_block_is_shell(block: Block) -> None:
    lines = [line.removeprefix("$ ") for line in block.text.splitlines(keepends=True)]
    done = subprocess.run(["sh", "-n"], input="".join(lines), capture_output=True, text=True, timeout=10)
    assert done.returncode == 0, done.stderr


@each_block("python")
async def test_a_python_block_works(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile(block.text, str(block), "exec", dont_inherit=True)
    module = ModuleType("a_block")
    monkeypatch.setitem(sys.modules, "a_block", module)
    exec(code, vars(module))
    for found in list(vars(module).values()):
        if getattr(found, "__module__", None) != "a_block":
            continue
        if isinstance(found, type) and issubclass(found, Plugin):
            await lets_a_reply_pass(found)
        elif callable(found) and found.__name__.startswith("test_"):
            for arguments in parameters(found):
                done = found(**arguments)
                assert not isawaitable(done) or await done is None


def parameters(test: Callable[..., object]) -> Iterator[dict[str, Any]]:
    """What a test is run with: each value of its one parameter, or nothing."""
    (mark,) = getattr(test, "pytestmark", None) or (None,)
    if mark is None:
        yield {}
        return
    name, values = mark.args
    for value in values:
        yield {name: value}


async def lets_a_reply_pass(cls: type[Plugin[Any]]) -> None:
    """The plugin can be made, and its code runs to an end a client would understand."""
    kind = cls.settings_type()
    for stream in (False, True):
        plugin = cls(kind() if kind is not None else None, host())
        await plugin.start()
        driven = await drive(plugin, says("Hel", "lo"), stream=stream)
        await plugin.stop()
        assert driven.error is None or driven.error.status < 500  # type: ignore[attr-defined]


def test_a_block_says_what_it_is_written_in() -> None:
    assert [str(block) for block in blocks("")] == []


# --- names ------------------------------------------------------------------------------------------------------------


@by_page
def test_commands_exist(page: Path) -> None:
    for line in commands(page):
        first, *words = line.split() or [""]
        if first in ("sidegate", ".venv/bin/sidegate"):
            assert_command(line, words)
        elif first.startswith("scripts/"):
            assert (ROOT / first).exists(), line


def assert_command(line: str, words: list[str]) -> None:
    if not words or words[0] in ("--help", "--version", "-h"):
        return
    if words[0] == "plugins" or len(words) > 1:
        options = cli._parser().parse_args(words)
    else:  # a command by its name alone: what it needs is left out
        options = cli._parser().parse_args([words[0], "CONFIG"])
    path = getattr(options, "config", None)
    if path is not None and path.parts[0] == "config":
        assert (ROOT / path).exists(), line


@by_page
def test_files_exist(page: Path) -> None:
    for word in inline(page):
        if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./-]+", word):
            assert (ROOT / word).exists() or (page.parent / word).exists(), word


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@by_page
def test_headers_exist(page: Path) -> None:
    code = "\n".join(path.read_text().lower() for path in python_files("service", "plugins"))
    for header in set(re.findall(r"\bx-sidegate-[a-z-]*[a-z]\b", page.read_text().lower())):
        assert header in code, header


@by_page
def test_metrics_exist(page: Path) -> None:
    known = exposed() | of_plugins() | LABELS
    for name in set(re.findall(r"(?<![\w.])(?:sidegate_(?!plugins\b)|gen_ai_)[a-z_]*[a-z]\b", page.read_text())):
        assert re.sub(r"_(bucket|sum|count)$", "", name) in known, name


@by_page
def test_keys_of_the_config_exist(page: Path) -> None:
    """`server.drain`, `providers.NAME.timeouts.idle`: a dotted name that begins like one of the config's."""
    tops = {field.encode_name for field in msgspec.structs.fields(Settings)}
    for word in inline(page):
        parts = re.sub(r"\[[\w*]*\]", ".0", word).split(".")
        if len(parts) > 1 and parts[0] in tops and re.fullmatch(r"[\w.*<>-]+", ".".join(parts)):
            assert leads(SETTINGS, parts) or (ROOT / "service" / "sidegate" / word).exists(), word


def leads(kind: inspect.Type, parts: list[str]) -> bool:
    """Does a path of keys lead to a setting? Names in a mapping and places in a list are any."""
    if not parts:
        return True
    match kind:
        case inspect.Metadata():
            return leads(kind.type, parts)
        case inspect.UnionType():
            return any(leads(arm, parts) for arm in kind.types)
        case inspect.StructType():
            return any(leads(field.type, parts[1:]) for field in kind.fields if field.encode_name == parts[0])
        case inspect.DictType():
            return leads(kind.value_type, parts[1:])
        case inspect.VarTupleType():
            return leads(kind.item_type, parts[1:])
        case _:
            return isinstance(kind, inspect.AnyType)


def test_every_metric_is_in_the_manual() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == exposed()


def exposed() -> set[str]:
    """The names of the gateway's metrics, as Prometheus shows them."""
    metrics = Metrics(str)
    metrics.watch_jobs(int, int)
    Certificates(metrics.registry, KeptEvents())
    Reloads(metrics.registry, datetime.now(UTC))
    return scraped(metrics)


def of_plugins() -> set[str]:
    """Those that plugins count by, where their pages name them."""
    metrics = Metrics(str)
    Cache(CacheSettings(), host(metrics=metrics))
    return scraped(metrics)


def scraped(metrics: Metrics) -> set[str]:
    shown = generate_latest(metrics.registry).decode()
    return {name for name in re.findall(r"^# HELP (\w+) ", shown, re.MULTILINE) if not name.endswith("_created")}


# --- the checks themselves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "is_there"),
    [
        ("server.drain", True),
        ("server.dran", False),
        ("providers.openai.timeouts.idle", True),
        ("providers.openai.timeouts.idel", False),
        ("ledger.url", True),
        ("listen.port", True),
        ("admin.port", True),
        ("pipelines.main.plugins.0.settings", True),
        ("pipelines.main.plugin", False),
        ("routes.0.on_disconnect", True),
    ],
)
def test_a_wrong_key_is_seen(path: str, is_there: bool) -> None:
    assert leads(SETTINGS, path.split(".")) is is_there


async def test_a_plugin_that_fails_in_a_block_is_seen() -> None:
    class Broken(Plugin[None]):
        async def __call__(self, call: Call, handler: Any) -> Reply:
            raise RuntimeError

    with pytest.raises((AssertionError, RuntimeError)):
        await lets_a_reply_pass(Broken)
