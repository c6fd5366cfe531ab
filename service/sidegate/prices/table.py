"""Table: the price lists as data, and which of them, which model and which price is meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from sidegate.prices.dump import FORMAT

MAX_NAME = 256
"""Longer than any model's name: what is longer is not looked for."""


class Price(Struct, frozen=True):
    """What a model costs, from a day on (UTC), or within hours of the day (UTC), or always."""

    kinds: Mapping[str, tuple[tuple[int, Decimal], ...]]
    """By kind, pairs of the input tokens above which it counts, and USD per million (of `request`: per thousand)."""
    since: date | None = None
    hours: tuple[time, time] | None = None

    def counts(self, at: datetime) -> bool:
        """Whether it does at this moment."""
        if self.since is not None:
            return at.date() >= self.since
        if self.hours is None:
            return True
        begin, end = self.hours
        now = at.time()
        return begin <= now <= end if begin <= end else now >= begin or now < end


class Clause(Struct, frozen=True, array_like=True):
    """Which names are meant; texts are in lower case."""

    kind: Literal["equals", "starts", "ends", "contains", "regex", "or", "and"]
    text: str
    parts: tuple[Clause, ...] = ()

    def fits(self, name: str) -> bool:
        """Whether a model of this name, in lower case, is meant."""
        match self.kind:
            case "equals":
                return name == self.text
            case "starts":
                return name.startswith(self.text)
            case "ends":
                return name.endswith(self.text)
            case "contains":
                return self.text in name
            case "regex":
                return re.search(self.text, name) is not None
            case "or":
                return any(part.fits(name) for part in self.parts)
            case "and":
                return all(part.fits(name) for part in self.parts)


class Listed(Struct, frozen=True):
    """A model of a price list."""

    id: str
    match: Clause
    prices: tuple[Price, ...]
    """Later ones go before earlier ones; where none counts, the first does."""

    def price(self, at: datetime) -> Price | None:
        """The one that counts at `at`, a time with a zone; `None` for a model without any."""
        moment = at.astimezone(UTC)
        found = next((price for price in reversed(self.prices) if price.counts(moment)), None)
        return found or next(iter(self.prices), None)


class _Head(Struct, frozen=True):
    """A provider's price list, its models not yet read."""

    id: str
    url: str
    fallbacks: tuple[str, ...]
    models: Raw


class _Dump(Struct, frozen=True):
    format: int
    library: str
    providers: tuple[_Head, ...]


class PriceList:
    """The models of one provider, and after them those it offers of others."""

    def __init__(self, id: str, models: Sequence[Listed]) -> None:
        self.id = id
        self._models = models

    def find(self, model: str) -> Listed | None:
        """By any of its names; a date written compactly (`-20251211`) is tried with dashes too."""
        name = model.lower()
        return self._find(name) or (self._find(dashed) if (dashed := _with_dashes(name)) != name else None)

    def _find(self, name: str) -> Listed | None:
        return next((listed for listed in self._models if listed.match.fits(name)), None)


_HEADS = msgspec.json.Decoder(_Dump)
_MODELS = msgspec.json.Decoder(tuple[Listed, ...])


def read(data: bytes, library: str, urls: Mapping[str, str]) -> dict[str, PriceList]:
    """From a dump of this version of the library, the price list of each provider that has one, by the `urls`' keys.

    Raises `ValueError` where the dump is not whole or of another version. Only the lists that are asked for are read.
    """
    try:
        dump = _HEADS.decode(data)
        if (dump.format, dump.library) != (FORMAT, library):
            raise ValueError(f"a dump of {dump.library}, format {dump.format}")
        by_id = {head.id: head for head in dump.providers}
        meant = {name: _meant(url, dump.providers) for name, url in urls.items()}
        lists = {head.id: PriceList(head.id, _models(head, by_id)) for head in meant.values() if head is not None}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, re.error) as error:
        raise ValueError("not a dump of price lists") from error
    return {name: lists[head.id] for name, head in meant.items() if head is not None}


def _meant(url: str, heads: Iterable[_Head]) -> _Head | None:
    return next((head for head in heads if re.match(head.url, url)), None) if url else None


def _models(head: _Head, by_id: Mapping[str, _Head]) -> list[Listed]:
    found: list[Listed] = []
    for one in (head, *(by_id[id] for id in head.fallbacks if id in by_id)):
        found += _MODELS.decode(one.models)
    for listed in found:
        _check(listed.match)
    return found


def _check(clause: Clause) -> None:
    """A pattern that cannot be compiled is found here, not by a call."""
    if clause.kind == "regex":
        re.compile(clause.text)
    for part in clause.parts:
        _check(part)


_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def _with_dashes(name: str) -> str:
    return _COMPACT_DATE.sub(r"-\1-\2-\3", name)
