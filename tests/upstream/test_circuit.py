"""A circuit: opens on evidence, stays open for its time, closes on proof, and hears nothing of an earlier state."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.settings import Circuit as Settings
from sidegate.upstream.circuit import MAX_NAMED, Circuit, Circuits, Outcome
from tests.upstream.scene import HandClock

GOOD, FAILED, SLOW, UNKNOWN = Outcome.GOOD, Outcome.FAILED, Outcome.SLOW, Outcome.UNKNOWN


class Told:
    """A circuit with its clock, and what was told of its changes."""

    def __init__(self, **settings: Any) -> None:
        self.clock = HandClock()
        self.changes: list[int] = []
        given = {"min_calls": 4, "error_rate": 0.5, "open_seconds": 10, "longest_open": 35, **settings}
        self.circuit = Circuit(Settings(**given), self.clock, self.changes.append)

    def say(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            self.circuit.record(self.circuit.admit(), outcome)

    def open(self) -> Told:
        self.say(*[FAILED] * 4)
        assert self.circuit.open
        return self


def test_it_opens_at_the_rate_of_errors_and_not_below() -> None:
    below = Told()
    below.say(GOOD, GOOD, GOOD, FAILED, FAILED)
    assert not below.circuit.open
    below.say(FAILED)
    assert below.circuit.open
    assert below.changes == [1]


def test_few_calls_prove_nothing() -> None:
    told = Told(min_calls=4)
    told.say(FAILED, FAILED, FAILED)
    assert not told.circuit.open
    assert told.circuit.admit()


def test_what_lies_behind_the_window_is_forgotten() -> None:
    told = Told(window=30)
    told.say(FAILED, FAILED, FAILED)
    told.clock.at += 31
    told.say(FAILED, GOOD, GOOD)
    assert not told.circuit.open
    told.clock.at += 15
    told.say(FAILED, FAILED)
    assert told.circuit.open


def test_refusals_and_clients_that_leave_count_for_nothing() -> None:
    told = Told()
    told.say(FAILED, FAILED, FAILED, *[UNKNOWN] * 20)
    assert not told.circuit.open
    told.say(FAILED)
    assert told.circuit.open


def test_it_opens_on_slow_first_tokens_too() -> None:
    told = Told(slow_after=1, slow_rate=0.75)
    told.say(SLOW, SLOW, GOOD, GOOD, SLOW, SLOW, SLOW)
    assert not told.circuit.open
    told.say(SLOW)
    assert told.circuit.open


def test_while_open_nothing_passes_and_the_wait_is_told() -> None:
    told = Told().open()
    assert told.circuit.admit() == 0
    assert told.circuit.wait() == 10
    told.clock.at += 9.5
    assert told.circuit.admit() == 0
    assert told.circuit.wait() == pytest.approx(0.5)


def test_half_open_lets_a_probe_through_and_closes_on_its_success() -> None:
    told = Told().open()
    told.clock.at += 10
    assert told.circuit.wait() == 0
    probe = told.circuit.admit()
    assert probe
    assert told.circuit.admit() == 0
    assert told.circuit.wait() == 1
    told.circuit.record(probe, GOOD)
    assert not told.circuit.open
    assert told.changes == [1, -1]
    told.say(FAILED, FAILED, FAILED)
    assert not told.circuit.open, "what came before it closed is forgotten"


@pytest.mark.parametrize("outcome", [FAILED, SLOW])
def test_a_probe_that_fails_opens_it_for_longer_up_to_a_bound(outcome: Outcome) -> None:
    told = Told().open()
    waits = []
    for _ in range(4):
        told.clock.at += told.circuit.wait()
        told.say(outcome)
        waits.append(told.circuit.wait())
    assert waits == [20, 35, 35, 35]
    assert told.changes == [1], "it has been open all along"


def test_after_it_closed_the_first_pause_is_short_again() -> None:
    told = Told().open()
    told.clock.at += 10
    told.say(FAILED)
    told.clock.at += 20
    told.say(GOOD)
    assert told.open().circuit.wait() == 10


def test_all_probes_must_succeed() -> None:
    told = Told(probes=3).open()
    told.clock.at += 10
    probes = [told.circuit.admit() for _ in range(3)]
    assert all(probes)
    assert told.circuit.admit() == 0
    told.circuit.record(probes[0], GOOD)
    told.circuit.record(probes[1], GOOD)
    assert told.circuit.open
    assert told.circuit.admit() == 0
    told.circuit.record(probes[2], FAILED)
    assert told.circuit.wait() == 20


def test_a_probe_that_says_nothing_gives_its_place_back() -> None:
    told = Told().open()
    told.clock.at += 10
    told.say(UNKNOWN)
    assert told.circuit.open
    assert told.circuit.admit()


def test_what_was_let_through_before_it_opened_neither_closes_it_nor_opens_it_again() -> None:
    told = Told()
    early = [told.circuit.admit() for _ in range(3)]
    told.open()
    told.clock.at += 10
    probe = told.circuit.admit()
    told.circuit.record(early[0], GOOD)
    assert told.circuit.open
    told.circuit.record(early[1], FAILED)
    assert told.circuit.wait() == 1, "the probe is still under way"
    told.circuit.record(probe, GOOD)
    told.circuit.record(early[2], FAILED)
    assert not told.circuit.open


EVENT = st.sampled_from([GOOD, FAILED, SLOW, UNKNOWN, "admit"]) | st.floats(0, 40)


@given(st.lists(EVENT, max_size=120), st.integers(1, 3), st.integers(1, 6))
def test_whatever_happens_it_is_never_shut_for_good_and_its_changes_add_up(
    events: list[Any], probes: int, min_calls: int
) -> None:
    told = Told(probes=probes, min_calls=min_calls, slow_after=1)
    circuit, under_way = told.circuit, []
    for event in events:
        if event == "admit":
            free = circuit.wait() == 0
            ticket = circuit.admit()
            assert bool(ticket) == free
            under_way += [ticket] if ticket else []
        elif isinstance(event, Outcome):
            if under_way:
                circuit.record(under_way.pop(0), event)
        else:
            told.clock.at += event
        assert sum(told.changes) == circuit.open
        assert circuit.wait() <= 35
    for ticket in under_way:
        circuit.record(ticket, UNKNOWN)
    told.clock.at += 35
    for _ in range(probes):
        told.say(GOOD)
    assert not circuit.open


class Register:
    """Circuits of one provider, and how many are told to be open by label."""

    def __init__(self, settings: Settings | None) -> None:
        self.open: dict[str, int] = {}
        self.clock = HandClock()
        self.circuits = Circuits({"p": settings}, self.clock, lambda provider, model: lambda by: self._add(model, by))

    def _add(self, model: str, by: int) -> None:
        self.open[model] = self.open.get(model, 0) + by

    def fail(self, model: str, spelled: str) -> None:
        circuit = self.circuits.of("p", model, spelled)
        assert circuit is not None
        circuit.record(circuit.admit(), FAILED)


def test_models_behind_one_wildcard_have_a_circuit_each_and_one_label() -> None:
    register = Register(Settings(min_calls=1))
    register.circuits.declare("p", "gpt-*")
    register.fail("gpt-sick", "gpt-*")
    sick, well = (register.circuits.of("p", name, "gpt-*") for name in ("gpt-sick", "gpt-well"))
    assert sick is not None
    assert well is not None
    assert sick.open
    assert not well.open
    assert register.open == {"gpt-*": 1}


def test_names_of_a_clients_choice_do_not_grow_without_bound() -> None:
    register = Register(Settings(min_calls=1))
    register.fail("gpt-0", "gpt-*")
    first = register.circuits.of("p", "gpt-0", "gpt-*")
    for number in range(1, MAX_NAMED + 1):
        register.circuits.of("p", f"gpt-{number}", "gpt-*")
    assert register.open == {"gpt-*": 0}, "what is forgotten is open no more"
    assert register.circuits.of("p", "gpt-0", "gpt-*") is not first


def test_a_target_of_the_config_is_never_forgotten_and_shared_by_all_models_that_lead_to_it() -> None:
    register = Register(Settings(min_calls=1))
    register.circuits.declare("p", "real")
    kept = register.circuits.of("p", "real", "real")
    for number in range(MAX_NAMED + 5):
        register.circuits.of("p", f"gpt-{number}", "gpt-*")
    assert register.circuits.of("p", "real", "other") is kept


def test_a_provider_may_have_none() -> None:
    register = Register(None)
    register.circuits.declare("p", "real")
    assert register.circuits.of("p", "real", "real") is None
    assert register.circuits.of("p", "gpt-1", "gpt-*") is None
