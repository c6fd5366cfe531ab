"""The benchmark of structured output runs, and its promise holds; its figures are nobody else's."""

from __future__ import annotations

import json
from random import Random

import pytest
from jsonschema import Draft202012Validator

from bench import structured
from bench.structured_cases import MUTATIONS, SCHEMAS, instance


@pytest.mark.parametrize("name", SCHEMAS)
def test_instances_fit_and_mutated_ones_do_not(name: str) -> None:
    draw = Random(3)
    validator = Draft202012Validator(SCHEMAS[name])
    for _ in range(5):
        value = instance(SCHEMAS[name], draw)
        assert validator.is_valid(value)
        for mutate in MUTATIONS.values():
            text = mutate(SCHEMAS[name], value, draw)
            if text is not None and text.startswith("{") and text.endswith("}"):
                assert not validator.is_valid(json.loads(text)), text


def test_each_way_of_going_wrong_is_met_and_most_are_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    tallies = structured.mutated(4)
    assert set(tallies) == set(MUTATIONS)
    for tally in tallies.values():
        assert tally.texts
        assert tally.stopped
    assert tallies["words before the JSON"].stopped == tallies["words before the JSON"].texts
    structured.main(1, 1)
    told = capsys.readouterr().out
    for name in (*MUTATIONS, *SCHEMAS):
        assert name in told
