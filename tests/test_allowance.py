"""What a key may say that it allows, and who is told where nothing holds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from msgspec import Struct

from sidegate.config import ConfigErrors, read_mapping
from sidegate.contract import Plugin
from sidegate.contract.allowance import Allowance, Enforced, nano_usd, require_enforced, unenforced
from sidegate.errors import Refusal
from sidegate.loader import Plugins, lets_in, load
from sidegate.null_host import null_host


class Asking(Struct, frozen=True, forbid_unknown_fields=True):
    issued: bool = True


class Door(Plugin[Asking]):
    """Lets issued keys in."""


class Models(Plugin[None]):
    enforces: ClassVar[frozenset[Enforced]] = frozenset({"models"})


class Money(Plugin[None]):
    enforces: ClassVar[frozenset[Enforced]] = frozenset({"budgets", "limits"})


def allowance(**given: Any) -> Allowance:
    return msgspec.convert(given, Allowance)


@pytest.mark.parametrize(
    ("given", "needs"),
    [
        ({}, []),
        ({"models": ["a"]}, ["models"]),
        ({"limits": [{"output_tokens": 1}]}, ["limits"]),
        ({"concurrency": 1, "budgets": [{"amount_usd": 0}]}, ["concurrency", "budgets"]),
    ],
)
def test_an_allowance_needs_what_it_restricts(given: Mapping[str, Any], needs: list[str]) -> None:
    assert list(allowance(**given).needs) == needs


@pytest.mark.parametrize(
    "given",
    [
        {"models": ["a*b"]},
        {"models": [""]},
        {"limits": [{}]},
        {"limits": [{"period": "day"}]},
        {"limits": [{"requests": 0}]},
        {"limits": [{"requests": 1, "period": "year"}]},
        {"limits": [{"requests": 1}, {"requests": 2, "input_tokens": 1}]},
        {"concurrency": 0},
        {"budgets": [{"amount_usd": -1}]},
        {"budgets": [{"amount_usd": "0.0000000001"}]},
        {"budgets": [{"amount_usd": "ten"}]},
        {"budgets": [{"amount_usd": 1, "timezone": "Mars/Olympus"}]},
        {"budgets": [{"amount_usd": 1, "period": {"hours": 1}}]},
        {"budgets": [{"amount_usd": 1}, {"amount_usd": 2}]},
        {"rate": 1},
    ],
)
def test_what_cannot_be_held_cannot_be_said(given: Mapping[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        allowance(**given)


def test_what_can_be_told_apart_can_stand_together() -> None:
    budgets = [
        {"amount_usd": 1},
        {"amount_usd": 2, "hard": False},
        {"amount_usd": 3, "timezone": "Asia/Tokyo"},
        {"amount_usd": 4, "period": "day"},
    ]
    limits = [{"requests": 1}, {"input_tokens": 1}, {"requests": 2, "period": "hour"}]
    made = allowance(budgets=budgets, limits=limits)
    assert (len(made.budgets), len(made.limits)) == (4, 3)


@pytest.mark.parametrize(
    ("amount", "nano"), [("0.1", 100_000_000), (0.1, 100_000_000), (20, 20 * 10**9), ("1e-9", 1), ("100000000", 10**17)]
)
def test_money_is_exact(amount: str | float, nano: int) -> None:
    assert nano_usd(amount) == nano


def test_who_allows_what_nobody_enforces_is_refused() -> None:
    asked = allowance(models=["a"], concurrency=1)
    assert unenforced(asked, ("models", "concurrency", "limits")) is None
    assert unenforced(None, ()) is None
    require_enforced(Allowance(), ())
    with pytest.raises(Refusal, match=r"concurrency \(plugin concurrency\)") as refused:
        require_enforced(asked, ("models",))
    assert (refused.value.status, refused.value.code) == (403, "allowance_not_enforced")


# --- which plugins are told what others enforce -----------------------------------------------------------------------


def loaded(tmp_path: Path, *plugins: str, attempt: tuple[str, ...] = ()) -> Plugins:
    def uses(names: tuple[str, ...]) -> list[dict[str, Any]]:
        return [{"use": name if ":" in name else f"{__name__}:{name}"} for name in names]

    config = {
        "providers": {"demo": {"dialect": "demo"}},
        "models": {"demo": {"provider": "demo"}},
        "pipelines": {"main": {"plugins": uses(plugins), "attempt": uses(attempt)}},
    }
    settings = read_mapping(config, {}, tmp_path).settings
    return load(settings, null_host(settings), tmp_path)


def test_a_plugin_knows_what_those_further_in_enforce_and_no_others(tmp_path: Path) -> None:
    plugins = loaded(tmp_path, "Models", "Door", "Money", "Door", attempt=("Models", "Door", "Money"))["main"]
    assert [sorted(each.plugin.host.enforced) for each in plugins.plugins] == [
        ["budgets", "limits"],
        ["budgets", "limits"],
        [],
        [],
    ]
    assert [each.plugin.host.enforced for each in plugins.attempt] == [frozenset()] * 3


def test_a_plugin_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as found:
        loaded(tmp_path, "Door", "Door", "nothing_here:Gone")
    assert [error.place for error in found.value.errors] == ["pipelines.main[2].use"]


def test_who_issues_a_key_is_told_where_it_would_be_refused(tmp_path: Path) -> None:
    asked = allowance(models=["a"], budgets=[{"amount_usd": 1}])
    assert lets_in(loaded(tmp_path, "Door", "Models", "Money"), asked) == ()
    assert lets_in(loaded(tmp_path, "Door"), None) == ()
    assert lets_in(loaded(tmp_path, "Models", "Door", "Money"), asked) == (
        "pipeline main refuses this key: it does not enforce models (plugin model_access)",
    )
    assert "no pipeline" in lets_in(loaded(tmp_path, "Models"), None)[0]
