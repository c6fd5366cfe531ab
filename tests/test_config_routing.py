"""The config of targets, keys, retries and circuits: what is read, what is refused and where, and what is warned of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from sidegate.commands.explain import explain
from sidegate.commands.explain_lines import lines
from sidegate.config import ConfigErrors, Loaded, read_mapping
from sidegate.settings import Choice, Target, as_choice

ONE = {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1"}


def read(models: Any = None, base: Path = Path("/etc/sidegate"), **provider: Any) -> Loaded:
    """A config of the providers `one`, with these settings, and `two`."""
    config: dict[str, Any] = {
        "providers": {"one": {**ONE, "api_key": "sk-1", **provider}, "two": {"dialect": "demo"}},
        "models": models or {"m": {"provider": "one"}},
        "pipelines": {"main": {}},
    }
    return read_mapping(config, {}, base)


def refused(models: Any = None, base: Path = Path("/etc/sidegate"), **provider: Any) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        read(models, base, **provider)
    return [str(error) for error in caught.value.errors]


# --- targets ----------------------------------------------------------------------------------------------------------


def test_a_target_a_list_and_a_block_are_three_ways_to_say_it() -> None:
    target = {"provider": "one", "model": "x"}
    models = read({"a": target, "b": [target], "c": {"targets": [target]}}).settings.models
    assert {as_choice(leads).leads_to for leads in models.values()} == {(Target(provider="one", model="x"),)}
    assert {as_choice(leads).strategy for leads in models.values()} == {"ordered"}


def test_targets_may_be_weighted() -> None:
    targets = [{"provider": "one", "weight": 9}, {"provider": "two", "weight": 0}]
    loaded = read({"m": {"strategy": "weighted", "targets": targets}})
    choice = loaded.settings.models["m"]
    assert isinstance(choice, Choice)
    assert choice.strategy == "weighted"
    assert [target.weight for target in choice.leads_to] == [9, 0]
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("leads", "problem"),
    [
        ({}, "models.m: missing required field `provider` (or `targets`, a list)"),
        ({"model": "x"}, "models.m: missing required field `provider` (or `targets`, a list)"),
        (
            {"provider": "one", "targets": [{"provider": "one"}]},
            "models.m: `targets` stands alone: `provider` and `model` belong into its items",
        ),
        ({"targets": []}, "models.m.targets: the list of targets is empty"),
        ({"targets": {"provider": "one"}}, "models.m.targets: Expected array, got object"),
        ({"targets": [{"provider": "tow"}]}, "models.m.targets[0].provider: no provider `tow` is declared"),
        ({"targets": [{"provider": "one", "weight": -1}]}, "models.m.targets[0].weight: Expected int >= 0"),
        ({"targets": [{"provider": "one", "weight": 1001}]}, "models.m.targets[0].weight: Expected int <= 1000"),
        ({"targets": [{"provider": "one", "wieght": 2}]}, "models.m.targets[0]: unknown field `wieght`"),
        (
            {"targets": [{"provider": "one"}], "strategy": "weigthed"},
            "models.m.strategy: expected one of `ordered`, `weighted`, did you mean `weighted`?",
        ),
        (
            {"targets": [{"provider": "one", "weight": 0}], "strategy": "weighted"},
            "models.m.targets: one target at least needs a weight above 0",
        ),
        ({"provider": "one", "strategy": "weighted"}, "models.m.strategy: needs `targets`, a list"),
    ],
)
def test_a_mistake_is_told_with_its_place(leads: Any, problem: str) -> None:
    (line,) = refused({"m": leads})
    assert line.startswith(problem)


@pytest.mark.parametrize("listed", [True, False])
def test_weights_that_mean_nothing_are_a_warning(listed: bool) -> None:
    targets = [{"provider": "one", "weight": 2}, {"provider": "two"}]
    place = "models.m" if listed else "models.m.targets"
    loaded = read({"m": targets if listed else {"targets": targets}})
    assert loaded.warnings == (f"{place}: weights mean nothing without `strategy: weighted`",)


def test_the_targets_of_a_provider_that_is_off_are_left_out() -> None:
    block = {"strategy": "weighted", "targets": [{"provider": "one", "weight": 3}, {"provider": "two"}]}
    loaded = read({"m": block, "n": {"targets": [{"provider": "one"}]}}, api_key="", optional=True)
    assert loaded.settings.models == {"m": Choice(strategy="weighted", targets=(Target(provider="two"),))}


# --- keys -------------------------------------------------------------------------------------------------------------


def test_several_keys_are_kept_in_order_and_empty_ones_left_out() -> None:
    loaded = read(api_key="", api_keys=["sk-b", "", "sk-a"])
    assert loaded.settings.providers["one"].keys == ("sk-b", "sk-a")
    assert {"sk-a", "sk-b"} <= loaded.secrets
    assert loaded.warnings == ()


def test_keys_may_stand_in_a_file_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# the first account\nsk-one\n\n  sk-two \r\n")
    loaded = read(base=tmp_path, api_key="", api_keys_file="keys")
    assert loaded.settings.providers["one"].keys == ("sk-one", "sk-two")
    assert {"sk-one", "sk-two"} <= loaded.secrets


def test_a_missing_file_of_keys_turns_an_optional_provider_off(tmp_path: Path) -> None:
    loaded = read(base=tmp_path, api_key="", api_keys_file="none", optional=True)
    assert set(loaded.settings.providers) == {"two"}


def test_a_provider_with_nothing_but_empty_keys_is_off_where_it_is_optional() -> None:
    assert set(read(api_key="", api_keys=["", ""], optional=True).settings.providers) == {"two"}
    assert read(api_key="", api_keys=[""]).warnings == ("providers.one: has no api_key; calls are sent without one",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "the file is empty"),
        ("# nothing\n \n", "the file holds no key"),
        ("sk-one\nsk two\n", "a key is visible ASCII without spaces or line breaks"),
    ],
)
def test_a_file_that_holds_no_keys_is_refused_and_not_quoted(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "keys").write_text(content)
    assert refused(base=tmp_path, api_key="", api_keys_file="keys") == [f"providers.one.api_keys_file: {problem}"]


def test_a_key_in_a_list_is_held_to_the_same_and_not_quoted() -> None:
    assert refused(api_key="", api_keys=["sk-a", "hunter 2"]) == [
        "providers.one.api_keys[1]: a key is visible ASCII without spaces or line breaks"
    ]


def test_a_key_that_stands_twice_is_used_once_and_a_warning_that_does_not_quote_it() -> None:
    loaded = read(api_key="", api_keys=["hunter2", "hunter3", "hunter2"])
    assert loaded.settings.providers["one"].keys == ("hunter2", "hunter3")
    assert loaded.warnings == ("providers.one.api_keys[2]: key 3 stands there twice, and is used once",)


def test_keys_stand_in_one_place() -> None:
    assert refused(api_keys=["sk-2"], api_keys_file="keys") == [
        "providers.one: `api_key` and `api_keys` and `api_keys_file` exclude each other"
    ]


def test_no_key_is_in_what_is_explained() -> None:
    explained = explain(read(api_key="", api_keys=["hunter2-a", "hunter2-b"]), {})
    assert explained["providers"]["one"]["key"] == "2 keys"
    assert "hunter2" not in msgspec.json.encode(explained).decode()


# --- retries and circuits ---------------------------------------------------------------------------------------------


def test_retries_and_circuits_are_the_providers_and_a_circuit_may_be_none() -> None:
    provider = read(retry={"attempts": 4, "share": 0.1}, circuit={"probes": 2}).settings.providers["one"]
    assert (provider.retry.attempts, provider.retry.share, provider.retry.cap) == (4, 0.1, 8)
    assert provider.circuit is not None
    assert provider.circuit.probes == 2
    assert read(circuit=None).settings.providers["one"].circuit is None


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"retry": {"attempts": 0}}, "providers.one.retry.attempts: Expected int >= 1"),
        ({"retry": {"share": 1.5}}, "providers.one.retry.share: Expected float <= 1.0"),
        ({"retry": {"base": 3, "cap": 2}}, "providers.one.retry.cap: is shorter than `base`"),
        ({"retry": {"retries": 2}}, "providers.one.retry: unknown field `retries`"),
        ({"circuit": {"error_rate": 0}}, "providers.one.circuit.error_rate: Expected float > 0.0"),
        (
            {"circuit": {"open_seconds": 400}},
            "providers.one.circuit.longest_open: is shorter than `open_seconds`",
        ),
        ({"key_rest": 0}, "providers.one.key_rest: Expected float > 0.0"),
    ],
)
def test_a_setting_out_of_bounds_is_told_with_its_place(settings: Any, problem: str) -> None:
    assert refused(**settings) == [problem]


# --- explain ----------------------------------------------------------------------------------------------------------


def test_explain_says_where_each_model_leads_and_by_which_weights() -> None:
    targets = [{"provider": "one", "model": "x", "weight": 3}, {"provider": "two"}]
    explained = explain(read({"m": {"strategy": "weighted", "targets": targets}, "n": targets[1:]}), {})
    assert explained["models"]["m"] == [
        {"provider": "one", "model": "x", "weight": 3},
        {"provider": "two", "model": "m", "weight": 1},
    ]
    assert explained["models"]["n"] == [{"provider": "two", "model": "n"}]
    assert explained["providers"]["one"]["retry"]["attempts"] == 2
    said = "\n".join(lines({**explained, "routes": []}))
    assert "one x (weight 3), or two m (weight 1)" in said


def test_what_a_choice_leaves_open_is_no_target() -> None:
    assert Choice(provider="one").targets is UNSET
    assert Choice(provider="one").leads_to == (Target(provider="one"),)
