"""Writes docs/dialects/translation.md: what is lost between dialects, from what the gateway itself goes by.

`scripts/docs` writes the page; a test fails where the page differs from what this gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sidegate.wire import words
from sidegate.wire.words import ALONE, FEATURES, PARTLY, PROVIDERS, TITLES, WORDS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "dialects" / "translation.md"
TEXT = Path(__file__).resolve().parent / "translation.txt"


CLIENTS = (*PROVIDERS, "ai_sdk.ui_messages")
ASPECTS = (
    "text",
    "tools",
    "streamed tools",
    "images",
    "files",
    "JSON schema",
    "reasoning",
    "citations",
    "usage",
    "errors",
)
OTHERWISE: Mapping[tuple[str, str, str], str] = {
    ("gemini.generate", "*", "streamed tools"): "whole",
    ("*", "gemini.generate", "streamed tools"): "whole",
}
"""By client, provider and aspect, any of which may be `*`: what is not simply so."""
_NOTES = {"works": "works", "whole": "works: each call whole, as Gemini has them"}


def outcome(client: str, provider: str, aspect: str) -> str:
    """A cell of the table of features."""
    keys = [(client, provider, aspect), (client, "*", aspect), ("*", provider, aspect)]
    return next((OTHERWISE[key] for key in keys if key in OTHERWISE), "works")


def page() -> str:
    """The whole page: the text, with a table in the place of each mark."""
    text = TEXT.read_text()
    for mark, lines in (("{words}", _words()), ("{alone}", _alone()), ("{features}", _features())):
        text = text.replace(mark, "\n".join(lines))
    return text


def _features() -> Iterator[str]:
    rows = [
        [TITLES[client], TITLES[provider], *(_NOTES[outcome(client, provider, aspect)] for aspect in ASPECTS)]
        for client in CLIENTS
        for provider in PROVIDERS
    ]
    return table(["client", "provider", *ASPECTS], rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _words() -> Iterator[str]:
    rows = [[_feature(feature), *(_cell(dialect, feature) for dialect in PROVIDERS)] for feature in FEATURES]
    return table(["", *(TITLES[dialect] for dialect in PROVIDERS)], rows)


def _feature(feature: words.Feature) -> str:
    return f"`{feature.name}`" + (f": {feature.says}" if feature.says else "")


def _cell(dialect: str, feature: words.Feature) -> str:
    word = WORDS[dialect].get(feature.name)
    if word is None:
        return f"**{feature.loss.value}**"
    note = PARTLY.get((dialect, feature.name))
    return f"`{word}`" + ("" if note is None else f"; {note}")


def _alone() -> Iterator[str]:
    fields: Mapping[str, Any] = {dialect: names for dialect, names in ALONE.items() if names}
    return table(
        ["client", "refused before a provider of another dialect"],
        [[TITLES[dialect], ", ".join(f"`{name}`" for name in names)] for dialect, names in fields.items()],
    )


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
