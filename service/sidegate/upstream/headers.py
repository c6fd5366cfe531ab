"""Headers: those of a provider's reply, as its connection has brought them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=256)
def _sought(name: str) -> bytes:
    """A field name, as it stands in a head that was put in lower case."""
    return b"\r\n%b:" % name.lower().encode("latin-1", "replace")


class Headers(Mapping[str, str]):
    """Looked up without regard to case; what came several times is joined by commas (RFC 9110 section 5.2).

    A provider sends dozens, of which a few are asked for: so they are found by a search, and not cut apart.
    """

    __slots__ = ("_head", "_lower", "_names")

    def __init__(self, head: bytes) -> None:
        """`head` is a start line and field lines that a strict parser has taken, each ended by CRLF."""
        self._head = head
        self._lower = head.lower()
        self._names: list[str] | None = None

    def get(self, name: str, default: Any = None) -> Any:
        lower, sought = self._lower, _sought(name)
        at = lower.find(sought)
        if at < 0:
            return default
        start = at + len(sought)
        end = lower.find(b"\r\n", start)
        found = self._head[start:end].strip(b" \t").decode("latin-1")
        return found if lower.find(sought, end) < 0 else f"{found}, {self._later(sought, end)}"

    def has(self, sought: bytes) -> bool:
        """Whether that stands in it, in lower case: such as `\\r\\nname:`. For what each call asks, mostly in vain."""
        return self._lower.find(sought) >= 0

    def says(self, name: str, word: bytes) -> bool:
        """Whether the value begins so, in lower case."""
        sought = _sought(name)
        at = self._lower.find(sought)
        return at >= 0 and self._lower[at + len(sought) :].lstrip(b" \t").startswith(word)

    def __getitem__(self, name: str) -> str:
        found: str | None = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        if self._names is None:
            lines = self._lower.split(b"\r\n")[1:-1]
            self._names = list(dict.fromkeys(line.partition(b":")[0].decode("latin-1") for line in lines))
        return iter(self._names)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _later(self, sought: bytes, start: int) -> str:
        """The values of a name behind `start`."""
        lines = self._head[start:-2].split(b"\r\n")
        name = sought[2:]
        values = [line[len(name) :] for line in lines if line.lower().startswith(name)]
        return b", ".join(value.strip(b" \t") for value in values).decode("latin-1")
