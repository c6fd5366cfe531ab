"""The loader: from `use` to a plugin that runs, and every way in which that goes wrong."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sidegate.config import ConfigErrors, read_mapping
from sidegate.contract import Handler, Plugin
from sidegate.errors import ConfigError
from sidegate.finder import available
from sidegate.loader import LoadedPipeline, LoadedPlugin, load, start, stop
from sidegate.null_host import null_host

MODULE = '''
"""Plugins for these tests."""

from __future__ import annotations

import os
from typing import Annotated

from msgspec import Meta, Struct

from sidegate.contract import Observer, Plugin

class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    at: int = 0
    api_key: str = ""

class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    rpm: Annotated[int, Meta(ge=1, description="Calls a minute.")] = 60
    api_key: str = ""
    inner: dict[str, Inner] = {}
    listed: tuple[Inner, ...] = ()
    path_file: str = ""

class Limit(Plugin[Settings]):
    """Limits calls.

    In a way of its own.
    """

class Watch(Observer[None]):
    """Watches."""

class Loose(Struct):
    a: int = 0

class Lenient(Plugin[Loose]): ...

class Needy(Struct, frozen=True):
    api_key: str

class Needs(Plugin[Needy]): ...

class Picky(Plugin[Settings]):
    def __init__(self, settings, host):
        super().__init__(settings, host)
        raise ValueError(f"no\\n  good: {settings.api_key}")

class Faulty(Plugin[Settings]):
    def __init__(self, settings, host):
        raise KeyError("lost")

class Late(Plugin[None]):
    contract = 2

class Buffered(Plugin[None]):
    deliveries = frozenset({"buffered"})

class BadTypes(Struct):
    a: Annotated[str, Meta(ge=1)] = ""

class Bad(Plugin[BadTypes]): ...

class NoPlugin: ...

function = print
'''

COST = """
from sidegate.contract import Plugin

class Cost(Plugin[None]):
    accounts = True

class Repair(Plugin[None]):
    reruns = True

class Memory(Plugin[None]):
    replays = "others"

class Again(Plugin[None]):
    replays = "retries"

class Names(Plugin[None]):
    names_callers = True

class Access(Plugin[None]):
    enforces = frozenset({"models"})
"""

ENTRY_POINTS = """
[sidegate.plugins]
rate_limit = tried_plugins:Limit
watch = tried_plugins:Watch
cost = tried_cost:Cost
gone = tried_gone:Gone
explodes = tried_explodes:Never
class_gone = tried_plugins:Limits
twice = tried_plugins:Limit
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of plugins, installed as any other: a folder on the path with its entry points. No others are seen."""
    folder = tmp_path / "installed"
    for name, points in (("tried", ENTRY_POINTS), ("other", "[sidegate.plugins]\ntwice = tried_plugins:Watch\n")):
        metadata = folder / f"{name}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(points)
    (folder / "tried_plugins.py").write_text(MODULE)
    (folder / "tried_cost.py").write_text(COST)
    (folder / "tried_explodes.py").write_text("import sys\nsys.exit('hunter2\\n boom')\n")
    (folder / "tried_syntax.py").write_text("def (:\n")
    (folder / "tried_needs.py").write_text("import nothing_of_this_name\n")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "path", [str(folder), *(part for part in sys.path if not _offers_plugins(part))])
        importlib.invalidate_caches()
        yield folder
    for name in [name for name in sys.modules if name.startswith("tried_")]:
        del sys.modules[name]


def _offers_plugins(folder: str) -> bool:
    points = [*Path(folder).glob("*.dist-info/entry_points.txt"), *Path(folder).glob("*.egg-info/entry_points.txt")]
    return any("[sidegate.plugins]" in path.read_text() for path in points)


def loaded(
    *plugins: Mapping[str, Any],
    attempt: tuple[Mapping[str, Any], ...] = (),
    prefixes: tuple[str, ...] | None = None,
    environ: Mapping[str, str] | None = None,
    base: Path = Path("/"),
) -> LoadedPipeline:
    data: dict[str, Any] = {
        "providers": {"demo": {"dialect": "demo"}},
        "models": {"m": {"provider": "demo"}},
        "pipelines": {"chat": {"plugins": list(plugins), "attempt": list(attempt)}},
        "plugin_prefixes": list(prefixes) if prefixes is not None else None,
    }
    settings = read_mapping(data, environ or {}, base).settings
    return load(settings, null_host(settings), base)["chat"]


def refused(*plugins: Mapping[str, Any], **others: Any) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        loaded(*plugins, **others)
    return [str(error) for error in caught.value.errors]


# --- found and made ---------------------------------------------------------------------------------------------------


def test_entry_points_and_import_paths_are_loaded_in_order() -> None:
    pipeline = loaded(
        {"use": "rate_limit", "settings": {"rpm": 3}},
        {"use": "tried_plugins:Watch"},
        {"use": "rate_limit", "name": "second"},
        {"use": "rate_limit"},
        attempt=({"use": "rate_limit"},),
    )
    assert [(each.name, each.place) for each in pipeline.plugins] == [
        ("rate_limit", "pipelines.chat[0]"),
        ("Watch", "pipelines.chat[1]"),
        ("second", "pipelines.chat[2]"),
        ("rate_limit#2", "pipelines.chat[3]"),
    ]
    assert [(each.name, each.place) for each in pipeline.attempt] == [("rate_limit#3", "pipelines.chat.attempt[0]")]
    assert pipeline.plugins[0].plugin.settings.rpm == 3
    assert pipeline.plugins[2].plugin.settings.rpm == 60
    assert pipeline.plugins[1].plugin.settings is None
    assert pipeline.plugins[1].plugin.fails_open


def test_the_plugin_gets_the_host() -> None:
    (plugin,) = loaded({"use": "rate_limit"}).plugins
    assert plugin.plugin.host.models[0].targets == (("demo", "m"),)


def test_a_name_given_by_hand_may_look_like_one_that_was_made() -> None:
    pipeline = loaded(
        {"use": "rate_limit", "name": "a#2"}, {"use": "rate_limit", "name": "a"}, {"use": "watch", "name": "a"}
    )
    assert [each.name for each in pipeline.plugins] == ["a#2", "a", "a#3"]


@pytest.mark.parametrize(
    ("use", "problem"),
    [
        ("rate_limt", "no plugin `rate_limt` is installed, did you mean `rate_limit`?"),
        ("tried_plugins", "no plugin `tried_plugins` is installed"),
        ("gone", "cannot import tried_gone: No module named 'tried_gone' (is it installed, or on PYTHONPATH?)"),
        (
            "acme.redact:Redact",
            "cannot import acme.redact: No module named 'acme' (is it installed, or on PYTHONPATH?)",
        ),
        ("tried_needs:A", "cannot import tried_needs: No module named 'nothing_of_this_name'"),
        ("tried_syntax:A", "cannot import tried_syntax: SyntaxError: invalid syntax (tried_syntax.py, line 1)"),
        ("explodes", "cannot import tried_explodes: SystemExit: hunter2 boom"),
        ("class_gone", "tried_plugins has no Limits, did you mean `Limit`?"),
        ("tried_plugins:Limit.x", "tried_plugins has no Limit.x"),
        ("tried_plugins:NoPlugin", "tried_plugins:NoPlugin is no Plugin"),
        ("tried_plugins:function", "tried_plugins:function is no Plugin"),
        ("tried_plugins:Late", "tried_plugins:Late needs contract 2 of plugins, and this gateway has 1"),
        ("twice", "several packages offer a plugin `twice`: tried_plugins:Limit, tried_plugins:Watch"),
        ("../evil.py:Evil", "expected the name of a plugin or an import path `package.module:Class`"),
        ("os:", "expected the name of a plugin or an import path `package.module:Class`"),
        (":Limit", "expected the name of a plugin or an import path `package.module:Class`"),
        ("a:b:c", "expected the name of a plugin or an import path `package.module:Class`"),
    ],
)
def test_a_plugin_that_cannot_be_found_says_why_in_one_line(use: str, problem: str) -> None:
    (line,) = refused({"use": use})
    assert line.startswith(f"pipelines.chat[0].use: {problem}")
    assert "\n" not in line


def test_types_that_cannot_be_are_the_plugins_mistake() -> None:
    (line,) = refused({"use": "tried_plugins:Bad"})
    assert line.startswith("pipelines.chat[0].use: the settings of tried_plugins:Bad have types that cannot be: ")


def test_a_module_that_is_not_allowed_is_not_imported() -> None:
    expected = ["pipelines.chat[0].use: tried_explodes is not below any of the plugin_prefixes"]
    assert refused({"use": "tried_explodes:Never"}, prefixes=("tried_plugins",)) == expected
    assert "tried_explodes" not in sys.modules


@pytest.mark.parametrize(
    ("prefixes", "allowed"),
    [
        (None, True),
        (("tried_plugins",), True),
        (("acme", "tried_plugins"), True),
        (("tried",), False),
        (("tried_plugins.inner",), False),
        ((), False),
    ],
)
def test_prefixes_end_at_dots(prefixes: tuple[str, ...] | None, allowed: bool) -> None:
    if allowed:
        assert loaded({"use": "tried_plugins:Limit"}, prefixes=prefixes).plugins
    else:
        assert refused({"use": "tried_plugins:Limit"}, prefixes=prefixes)
    assert loaded({"use": "rate_limit"}, prefixes=prefixes).plugins  # who installs an entry point has allowed it


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"rpm": 0}, "Expected int >= 1 - at $.rpm"),
        ({"rpm": "3"}, "Expected int, got str - at $.rpm"),
        ({"rmp": 3}, "unknown field `rmp`, did you mean `rpm`?"),
        ({"inner": {"a b": {"at": "x"}}}, "Expected int, got str - at $.inner['a b'].at"),
        ({"inner": {"a": {"att": 1}}}, "unknown field `att`, did you mean `at`? - at $.inner.a"),
        ({"listed": [{}, {"at": None}]}, "Expected int, got null - at $.listed[1].at"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(settings: dict[str, Any], problem: str) -> None:
    assert refused({"use": "watch"}, {"use": "rate_limit", "settings": settings}) == [
        f"pipelines.chat[1].settings: {problem}"
    ]
    assert refused(attempt=({"use": "rate_limit", "settings": settings},)) == [
        f"pipelines.chat.attempt[0].settings: {problem}"
    ]


def test_unknown_settings_are_mistakes_for_every_plugin() -> None:
    assert refused({"use": "tried_plugins:Lenient", "settings": {"b": 1}}) == [
        "pipelines.chat[0].settings: unknown field `b`"
    ]
    assert refused({"use": "watch", "settings": {"b": 1}}) == ["pipelines.chat[0].settings: watch has no settings"]


def test_all_mistakes_of_all_plugins_are_told() -> None:
    found = refused(
        {"use": "nope"}, {"use": "rate_limit", "settings": {"rpm": 0, "x": 1}}, {"use": "tried_plugins:Late"}
    )
    assert [line.split(": ")[0] for line in found] == [
        "pipelines.chat[0].use",
        "pipelines.chat[1].settings",
        "pipelines.chat[1].settings",
        "pipelines.chat[2].use",
    ]


def test_a_number_from_the_environment_reaches_a_plugin_as_a_number() -> None:
    use = {"use": "rate_limit", "settings": {"rpm": "${RPM}", "api_key": "${RPM}"}}
    (plugin,) = loaded(use, environ={"RPM": "7"}).plugins
    assert plugin.plugin.settings.rpm == 7
    assert plugin.plugin.settings.api_key == "7"
    assert type(plugin.plugin.settings.api_key) is str
    assert refused(use, environ={"RPM": "x"}) == ["pipelines.chat[0].settings: Expected int, got str - at $.rpm"]


def test_a_setting_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2\n")
    (tmp_path / "number").write_text("9\n")
    settings = {
        "api_key_file": "key",
        "rpm_file": "number",
        "path_file": "stays a name",
        "inner": {"a": {"api_key_file": "key"}},
    }
    (plugin,) = loaded({"use": "rate_limit", "settings": settings}, base=tmp_path).plugins
    assert plugin.plugin.settings.api_key == "hunter2"
    assert plugin.plugin.settings.rpm == 9
    assert plugin.plugin.settings.path_file == "stays a name"
    assert plugin.plugin.settings.inner["a"].api_key == "hunter2"
    assert loaded({"use": "tried_plugins:Needs", "settings": {"api_key_file": "key"}}, base=tmp_path).plugins


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"api_key_file": "none"}, "the file cannot be read: No such file or directory - at $.api_key_file"),
        ({"api_key_file": "."}, "the file cannot be read: Is a directory - at $.api_key_file"),
        ({"api_key_file": "a\x00b"}, "the file cannot be read: not a path - at $.api_key_file"),
        ({"api_key_file": 3}, "expected the name of a file - at $.api_key_file"),
        ({"api_key_file": "key", "api_key": "hunter2"}, "`api_key` and `api_key_file` exclude each other"),
        ({"no_such_file": "key"}, "unknown field `no_such_file`"),
    ],
)
def test_a_file_that_gives_no_setting_is_refused(tmp_path: Path, settings: dict[str, Any], problem: str) -> None:
    (line,) = refused({"use": "rate_limit", "settings": settings}, base=tmp_path)
    assert line == f"pipelines.chat[0].settings: {problem}"


def test_a_constructor_that_raises_is_a_mistake_at_its_place_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file\n")
    assert refused({"use": "tried_plugins:Picky", "settings": {"api_key": "hunter2"}}) == [
        "pipelines.chat[0]: no good: ***"
    ]
    assert refused({"use": "tried_plugins:Picky", "settings": {"api_key_file": "key"}}, base=tmp_path) == [
        "pipelines.chat[0]: no good: ***"
    ]
    assert refused({"use": "tried_plugins:Faulty"}) == ["pipelines.chat[0]: KeyError: 'lost'"]


# --- what cannot be enforced ------------------------------------------------------------------------------------------


def test_what_accounts_stands_once_and_not_in_an_attempt() -> None:
    assert loaded({"use": "cost"}).plugins
    assert refused({"use": "cost"}, {"use": "tried_plugins:Limit", "name": "x"}, {"use": "cost"}) == [
        "pipelines.chat[2]: cost stands in this pipeline twice: calls would be reserved twice"
    ]
    assert refused(attempt=({"use": "cost"},)) == [
        "pipelines.chat.attempt[0]: cost belongs into the list `plugins`: it prices every attempt by itself"
    ]


@pytest.mark.parametrize(
    ("outer", "inner", "why"),
    [
        ("Repair", "Cost", "which may run a call several times"),
        ("Memory", "Cost", "which may answer without it"),
        ("Again", "Names", "which would answer without knowing who calls"),
        ("Again", "Access", "which would answer for models that a caller may not use"),
        ("Memory", "Names", "which would answer without knowing who calls"),
        ("Memory", "Access", "which would answer for models that a caller may not use"),
    ],
)
def test_an_order_in_which_a_plugin_is_passed_by_is_refused(outer: str, inner: str, why: str) -> None:
    assert refused({"use": f"tried_cost:{outer}"}, {"use": "watch"}, {"use": f"tried_cost:{inner}"}) == [
        f"pipelines.chat[2]: tried_cost:{inner} must stand before tried_cost:{outer}, {why}"
    ]
    assert loaded({"use": f"tried_cost:{inner}"}, {"use": f"tried_cost:{outer}"}).plugins


def test_what_accounts_may_stand_inside_what_tells_a_retry_again() -> None:
    assert loaded({"use": "tried_cost:Again"}, {"use": "tried_cost:Cost"}).plugins


def test_what_tells_again_is_no_attempt() -> None:
    (said,) = refused(attempt=({"use": "tried_cost:Memory"},))
    where, _, why = said.partition(": ")
    assert where == "pipelines.chat.attempt[0]"
    assert why == "tried_cost:Memory belongs into the list `plugins`: what it tells again is no attempt"


def test_a_plugin_that_does_not_act_on_streams_is_refused() -> None:
    assert refused({"use": "tried_plugins:Buffered"}) == [
        "pipelines.chat[0]: tried_plugins:Buffered does not act on every delivery of a route: stream"
    ]


# --- start and stop ---------------------------------------------------------------------------------------------------


class Told(Plugin[None]):
    """Writes down what happens to it, and fails where it is told to."""

    def __init__(self, name: str, events: list[str], fails: Mapping[str, BaseException]) -> None:
        self.name = name
        self.events = events
        self.fails = fails

    async def start(self) -> None:
        self._tell("start")

    async def stop(self) -> None:
        await asyncio.sleep(0)
        self._tell("stop")

    def _tell(self, event: str) -> None:
        self.events.append(f"{event} {self.name}")
        if error := self.fails.get(f"{event} {self.name}"):
            raise error

    async def __call__(self, call: Any, handler: Handler) -> Any:
        raise NotImplementedError


def pipelines(events: list[str], **fails: BaseException) -> dict[str, LoadedPipeline]:
    failing = {name.replace("_", " "): error for name, error in fails.items()}

    def plugin(name: str) -> LoadedPlugin:
        told = Told(name, events, failing)
        told.settings = None
        return LoadedPlugin(name, f"place.{name}", told)

    return {
        "one": LoadedPipeline("one", (plugin("a"), plugin("b")), (plugin("c"),)),
        "two": LoadedPipeline("two", (plugin("d"),)),
    }


async def test_plugins_start_in_order_and_stop_in_reverse() -> None:
    events: list[str] = []
    plugins = pipelines(events)
    await start(plugins)
    assert events == ["start a", "start b", "start c", "start d"]
    events.clear()
    await stop(plugins)
    assert events == ["stop d", "stop c", "stop b", "stop a"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no store"), "place.c: cannot start: no store"),
        (OSError(13, "Permission denied"), "place.c: cannot start: PermissionError: [Errno 13] Permission denied"),
        (ValueError(), "place.c: cannot start: ValueError: "),
        (ConfigError("", "not so"), "place.c: cannot start: not so"),
    ],
)
async def test_a_half_started_set_is_undone(error: Exception, text: str) -> None:
    events: list[str] = []
    with pytest.raises(ConfigError) as caught:
        await start(pipelines(events, start_c=error))
    assert str(caught.value).startswith(text.rstrip())
    assert caught.value.place == "place.c"
    assert caught.value.__cause__ is error
    assert events == ["start a", "start b", "start c", "stop b", "stop a"]


async def test_a_start_that_is_cancelled_is_undone_and_stays_cancelled() -> None:
    events: list[str] = []
    with pytest.raises(asyncio.CancelledError):
        await start(pipelines(events, start_b=asyncio.CancelledError()))
    assert events == ["start a", "start b", "stop a"]


async def test_one_that_cannot_stop_keeps_no_other_from_it(caplog: pytest.LogCaptureFixture) -> None:
    events: list[str] = []
    with caplog.at_level(logging.ERROR):
        await stop(pipelines(events, stop_c=RuntimeError("stuck")))
    assert events == ["stop d", "stop c", "stop b", "stop a"]
    assert "place.c" in caplog.text


async def test_a_cancelled_stop_goes_through_all_and_stays_cancelled() -> None:
    events: list[str] = []
    stopping = asyncio.create_task(stop(pipelines(events)))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert events == ["stop c", "stop b", "stop a"]


# --- what there is ----------------------------------------------------------------------------------------------------


def test_what_is_available_is_told_and_what_is_broken_hides_nothing() -> None:
    found = {plugin.name: plugin for plugin in available()}
    assert set(found) == {"rate_limit", "watch", "cost", "gone", "explodes", "class_gone", "twice"}
    limit = found["rate_limit"]
    assert (limit.path, limit.summary, limit.fails_open) == ("tried_plugins:Limit", "Limits calls.", False)
    assert limit.deliveries == ("buffered", "job", "stream")
    assert limit.schema is not None
    assert limit.schema["$defs"]["Settings"]["properties"]["rpm"]["description"] == "Calls a minute."
    assert found["watch"].fails_open
    assert found["watch"].schema is None
    broken = {name for name, plugin in found.items() if plugin.error}
    assert broken == {"gone", "explodes", "class_gone", "twice"}
    assert found["gone"].path == "tried_gone:Gone"
