"""Which targets a model name leads to, and the order they are drawn in."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.contract.call import Call
from sidegate.errors import Refusal
from sidegate.settings import Choice, Target
from sidegate.upstream.choice import Catalogue, Chosen, drawn
from tests.upstream.scene import Scene, fails


class NoChance(Random):
    """Fails the test that draws."""

    def random(self) -> float:
        raise AssertionError("nothing is left to chance here")


def weighted(*weights: int) -> tuple[Target, ...]:
    return tuple(Target(provider=f"p{number}", weight=weight) for number, weight in enumerate(weights))


def asking(model: str) -> Call:
    return Scene({"provider": "a"}).new_call(model)


def test_targets_in_order_and_a_single_one_are_not_left_to_chance() -> None:
    ordered = Chosen("m", Choice(targets=weighted(1, 1)))
    assert ordered.order(NoChance()) == weighted(1, 1)
    assert Chosen("m", Choice(targets=weighted(3), strategy="weighted")).order(NoChance()) == weighted(3)
    assert Chosen("m", Choice(provider="p0")).order(NoChance()) == weighted(1)


def test_the_first_target_is_drawn_by_its_weight() -> None:
    random = Random(7)
    first = Counter(drawn(weighted(6, 3, 1), random)[0].provider for _ in range(10_000))
    assert first["p0"] == pytest.approx(6000, abs=200)
    assert first["p1"] == pytest.approx(3000, abs=200)
    assert first["p2"] == pytest.approx(1000, abs=150)


def test_the_next_target_is_drawn_by_weight_from_those_that_are_left() -> None:
    random = Random(7)
    orders = [[target.provider for target in drawn(weighted(6, 3, 1), random)] for _ in range(10_000)]
    second = Counter(order[1] for order in orders if order[0] == "p0")
    assert second["p1"] / second.total() == pytest.approx(0.75, abs=0.03)


def test_a_target_without_weight_comes_last() -> None:
    random = Random(7)
    for _ in range(200):
        assert [target.weight for target in drawn(weighted(0, 5, 0, 1), random)][2:] == [0, 0]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_every_target_is_drawn_once(weights: list[int], random: Random) -> None:
    targets = weighted(*weights)
    assert sorted(t.provider for t in drawn(targets, random)) == sorted(t.provider for t in targets)


def test_an_exact_name_goes_before_a_pattern_and_a_long_pattern_before_a_short_one() -> None:
    catalogue = Catalogue(
        {
            "gpt-*": Choice(provider="short"),
            "gpt-4*": (Target(provider="long"),),
            "gpt-4o": Choice(provider="exact"),
        }
    )
    found = {name: catalogue.find(asking(name)).targets[0].provider for name in ("gpt-4o", "gpt-4x", "gpt-3")}
    assert found == {"gpt-4o": "exact", "gpt-4x": "long", "gpt-3": "short"}
    assert catalogue.names == ("gpt-4o",)
    assert [catalogue.label(name) for name in ("gpt-4o", "gpt-4x", "other")] == ["gpt-4o", "gpt-4*", "unknown"]


def test_a_model_a_caller_may_not_see_is_as_unknown_as_one_that_is_not_there() -> None:
    catalogue = Catalogue({"m": Choice(provider="a")})
    hidden, missing = asking("m"), asking("n")
    hidden.restrict_models(lambda name: False)
    said = []
    for call in (hidden, missing):
        with pytest.raises(Refusal) as caught:
            catalogue.find(call)
        said.append((caught.value.status, caught.value.code, caught.value.message.replace("`m`", "`n`")))
    assert said[0] == said[1]


async def test_the_router_tries_them_as_they_were_drawn() -> None:
    targets = [{"provider": name, "weight": weight} for name, weight in (("a", 1), ("b", 1000), ("c", 0))]
    scene = Scene({"strategy": "weighted", "targets": targets})
    assert await scene.play(b=[fails(529)], a=[fails(529)]) == ["b/m", "a/m", "c/m"]
