"""Structured output: `python -m bench.structured`. How early replies that do not fit are stopped, and what it costs.

Instances of a few schemas, as services ask for them, each made wrong in one place as models go wrong, are told in
pieces of four letters, about a token each. Printed: how many were stopped before their end, how much of their text was
never generated, and microseconds of CPU a piece, the best of several goes. None that fits may be stopped.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.structured_cases import MUTATIONS, SCHEMAS, instance
from sidegate_plugins._schema_prefix import SchemaPrefix
from sidegate_plugins._schema_rules import Rules

PIECE = 4
ROUNDS = 200
GOES = 7


@dataclass
class Tally:
    """What became of the texts of one kind."""

    texts: int = 0
    stopped: int = 0
    letters: int = 0
    unsaid: int = 0

    def add(self, text: str, read: int) -> None:
        self.texts += 1
        self.stopped += read < len(text)
        self.letters += len(text)
        self.unsaid += len(text) - read


def pieces(text: str) -> Iterator[str]:
    return (text[at : at + PIECE] for at in range(0, len(text), PIECE))


def read(rules: Rules, text: str) -> tuple[int, bool]:
    """How many letters were read, and whether it was refused there."""
    prefix = SchemaPrefix(rules)
    length = 0
    for piece in pieces(text):
        length += len(piece)
        if prefix.feed(piece) is not None:
            return length, True
    return length, False


def mutated(rounds: int, seed: int = 1) -> dict[str, Tally]:
    """By the way of going wrong."""
    draw = random.Random(seed)
    tallies = {name: Tally() for name in MUTATIONS}
    for name, schema in SCHEMAS.items():
        rules = Rules(schema)
        for _ in range(rounds):
            value = instance(schema, draw)
            if read(rules, json.dumps(value))[1]:
                raise AssertionError(f"{name}: one that fits was stopped: {value}")
            for kind, mutate in MUTATIONS.items():
                if (text := mutate(schema, value, draw)) is not None:
                    tallies[kind].add(text, read(rules, text)[0])
    return tallies


def microseconds(goes: int, seed: int = 2) -> dict[str, float]:
    """CPU a piece, by schema, of texts that fit."""
    draw = random.Random(seed)
    found: dict[str, float] = {}
    for name, schema in SCHEMAS.items():
        rules = Rules(schema)
        texts = [list(pieces(json.dumps(instance(schema, draw)))) for _ in range(50)]
        count = sum(map(len, texts))
        found[name] = min(_seconds(lambda: _feed(rules, texts)) for _ in range(goes)) / count * 1e6  # noqa: B023
    return found


def _feed(rules: Rules, texts: list[list[str]]) -> None:
    for text in texts:
        prefix = SchemaPrefix(rules)
        for piece in text:
            prefix.feed(piece)


def _seconds(work: Callable[[], Any]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def main(rounds: int = ROUNDS, goes: int = GOES) -> None:
    tallies = mutated(rounds)
    lines = [f"{'went wrong':<44}{'texts':>8}{'stopped before the end':>26}{'never generated':>18}"]
    for kind, tally in [*tallies.items(), ("all", _sum(tallies))]:
        stopped, unsaid = tally.stopped / tally.texts, tally.unsaid / tally.letters
        lines.append(f"{kind:<44}{tally.texts:>8}{stopped:>26.0%}{unsaid:>18.0%}")
    lines += ["", f"{'schema':<44}{'µs of CPU a piece':>20}"]
    lines += [f"{name:<44}{found:>20.2f}" for name, found in microseconds(goes).items()]
    sys.stdout.write("\n".join(lines) + "\n")


def _sum(tallies: dict[str, Tally]) -> Tally:
    found = Tally()
    for tally in tallies.values():
        for field in vars(found):
            setattr(found, field, getattr(found, field) + getattr(tally, field))
    return found


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
