from __future__ import annotations

import msgspec
import pytest

from sidegate.contract import Caller
from sidegate.contract.allowance import Allowance
from sidegate_plugins.model_access import ModelAccess, Settings
from tests.plugins.calls import HandClock, a_call, a_host, answer

MODELS = ("gpt", "gpt-mini", "claude", "claude-opus")


async def seen(settings: Settings, caller: Caller) -> list[str]:
    call = a_call(HandClock(), caller=caller)
    await ModelAccess(settings, a_host(HandClock()))(call, answer)
    return [model for model in MODELS if call.sees_model(model)]


LISTS = Settings(callers={"ann": ("gpt",), "team:red": ("claude*",), "none": ()}, default=("gpt-mini",))


@pytest.mark.parametrize(
    ("caller", "models"),
    [
        (Caller("ann"), ["gpt"]),
        (Caller("ann", team="red"), ["gpt"]),
        (Caller("bob", team="red"), ["claude", "claude-opus"]),
        (Caller("bob", team="blue"), ["gpt-mini"]),
        (Caller("bob"), ["gpt-mini"]),
        (Caller("none"), []),
        (Caller("none", team="red"), []),
        (Caller("team:red"), ["gpt-mini"]),
        (Caller("*"), ["gpt-mini"]),
    ],
)
async def test_the_callers_own_list_counts_then_its_teams_then_the_default(caller: Caller, models: list[str]) -> None:
    assert await seen(LISTS, caller) == models


async def test_who_is_on_no_list_sees_nothing() -> None:
    assert await seen(Settings(callers={"ann": ("*",)}), Caller("bob")) == []
    assert await seen(Settings(callers={"ann": ("*",)}), Caller("ann")) == list(MODELS)


async def test_a_star_stands_for_everybody_else() -> None:
    settings = Settings(callers={"ann": ("gpt",), "*": ("claude",)})
    assert await seen(settings, Caller("bob")) == ["claude"]
    assert await seen(settings, Caller("ann")) == ["gpt"]


async def test_several_lists_can_only_narrow() -> None:
    call = a_call(HandClock())
    host = a_host(HandClock())
    await ModelAccess(Settings(default=("gpt*",)), host)(call, answer)
    await ModelAccess(Settings(default=("gpt-mini", "claude")), host)(call, answer)
    assert [model for model in MODELS if call.sees_model(model)] == ["gpt-mini"]


def test_two_words_for_everybody_are_refused() -> None:
    with pytest.raises(ValueError, match="same thing"):
        ModelAccess(Settings(callers={"*": ()}, default=("gpt",)), a_host(HandClock()))


@pytest.mark.parametrize("pattern", ["", "*-mini", "g**"])
def test_a_star_stands_only_at_the_end(pattern: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"default": [pattern]}, Settings)


@pytest.mark.parametrize(
    ("name", "team", "allowed", "models"),
    [
        ("ann", None, ("gpt*",), ["gpt"]),
        ("ann", None, ("claude",), []),
        ("bob", "red", ("claude-*", "gpt"), ["claude-opus"]),
        ("bob", None, ("gpt", "claude*"), ["gpt", "claude", "claude-opus"]),
        ("bob", "blue", ("*",), ["gpt", "gpt-mini", "claude", "claude-opus"]),
        ("none", None, ("*",), []),
        ("*", None, ("gpt",), ["gpt"]),
    ],
)
async def test_what_a_key_allows_narrows_a_list_of_its_caller_and_takes_the_place_of_everybodys(
    name: str, team: str | None, allowed: tuple[str, ...], models: list[str]
) -> None:
    caller = Caller(name, team=team, allowance=Allowance(models=allowed))
    assert await seen(LISTS, caller) == models
    everybody = Settings(callers={"ann": ("gpt",), "team:red": ("claude*",), "none": (), "*": ("gpt-mini",)})
    assert await seen(everybody, caller) == models


async def test_a_key_without_models_of_its_own_sees_what_the_lists_say() -> None:
    assert await seen(LISTS, Caller("bob", allowance=Allowance(concurrency=1))) == ["gpt-mini"]
    assert await seen(LISTS, Caller("ann", allowance=Allowance())) == ["gpt"]
