"""Mistakes: gathered while a config is read, so that one look shows all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from sidegate.config.masking import scrub
from sidegate.errors import ConfigError

Path = tuple[str | int, ...]
"""Keys and indexes from the top of the config down to a value."""

_PLAIN_KEY = re.compile(r"[\w*:/@+-][\w.*:/@+-]*")
_LONGEST = 400


class ConfigErrors(ConfigError):
    """Several mistakes at once; `errors` holds them in the order they were found. Its text has one line for each."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(errors)
        super().__init__("", "\n".join(str(error) for error in self.errors))


class Mistakes:
    """Gathers what is wrong. Nothing it was told is a secret leaves it."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self.secrets: set[str] = set()
        self._final: set[str] = set()

    def add(self, place: Path | str, problem: str, *, final: bool = False) -> None:
        """Note a mistake. After a `final` one nothing more is said about its place: it would only follow from it."""
        place = place if isinstance(place, str) else render(place)
        if place not in self._final:
            self.found.append((place, problem))
        if final:
            self._final.add(place)

    def raise_any(self) -> None:
        """Raise `ConfigErrors` if there is any mistake."""
        if self.found:
            raise ConfigErrors(self.errors())

    def errors(self) -> list[ConfigError]:
        unique = dict.fromkeys((one_line(place), one_line(scrub(text, self.secrets))) for place, text in self.found)
        return [ConfigError(place, text) for place, text in unique]


def render(path: Path) -> str:
    """`pipelines.chat[2].settings`. The list of a pipeline is the pipeline: its key `plugins` is not said."""
    if len(path) > 3 and path[0] == "pipelines" and path[2] == "plugins":
        path = (*path[:2], *path[3:])
    place = ""
    for key in path:
        if isinstance(key, int):
            place += f"[{key}]"
        elif _PLAIN_KEY.fullmatch(key):
            place += f".{key}" if place else key
        else:
            place += f"[{key!r}]"
    return place


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean ...?` where one of the known words is near."""
    near = get_close_matches(word, list(known), n=1)
    return f", did you mean `{near[0]}`?" if near else ""


def one_line(text: str) -> str:
    """Foreign text fit for one line of a terminal: no breaks, no control characters, no end in sight."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
