"""What looking for patterns costs an event, and how much it holds back: `python -m bench.redaction`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from time import process_time

from sidegate_plugins._redact_known import KNOWN
from sidegate_plugins._redact_values import Find, placeholders
from sidegate_plugins._text_pattern import parsed
from sidegate_plugins._text_window import Patterns, Window, rewritten

ROUNDS = 5
PROSE = Path(__file__).parent.parent / "docs" / "plugins.md"
TOKEN = re.compile(r"\s?\w{1,6}|\W")
"""About what a model says at a time."""


def known(names: Sequence[str]) -> Patterns:
    return Patterns([parsed(KNOWN[name].expression) for name in names], [KNOWN[name].check for name in names])


def kept(number: int, value: str) -> str:
    return value


def main() -> None:
    prose = PROSE.read_text()
    tokens = TOKEN.findall(prose)
    back = Patterns([placeholders([Find(name=name) for name in ("email", "phone")])])
    print(f"{len(tokens)} events of {len(prose) / len(tokens):.1f} characters")
    for title, patterns in (
        ("placeholders, to put values back", back),
        ("email", known(["email"])),
        ("email, phone, credit_card", known(["email", "phone", "credit_card"])),
        (f"all {len(KNOWN)} that are known", known(list(KNOWN))),
    ):
        event, whole, held = measured(patterns, tokens, prose)
        mean, most = sum(held) / len(held), max(held)
        print(
            f"{title}: {event:.1f} µs an event, {whole:.0f} µs a kB whole; held {mean:.1f} characters, at most {most}"
        )


def measured(patterns: Patterns, tokens: list[str], prose: str) -> tuple[float, float, list[int]]:
    """CPU microseconds of an event, and of 1,000 characters at once, in the best round; what was held after each."""
    event = whole = float("inf")
    held: list[int] = []
    for _ in range(ROUNDS):
        window = Window(patterns, kept)
        began = process_time()
        for token in tokens:
            window.feed(token)
        event = min(event, (process_time() - began) / len(tokens) * 1e6)
        began = process_time()
        rewritten(prose, patterns, kept)
        whole = min(whole, (process_time() - began) / len(prose) * 1e9)
    window = Window(patterns, kept)
    for token in tokens:
        window.feed(token)
        held.append(window.held)
    return event, whole, held


if __name__ == "__main__":
    main()
