"""`sidegate prices`: by what each model of a config is priced, and where that price comes from."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from sidegate.commands.table import table
from sidegate.config import Loaded, read_config
from sidegate.contract.plugin import Plugin
from sidegate.contract.prices import Pricing, Rates
from sidegate.loader import load
from sidegate.null_host import null_host
from sidegate.prices.book import PriceBook
from sidegate.settings import Target, as_choice
from sidegate.upstream.choice import Catalogue

_NANO = 10**9
_ALWAYS = ("input", "output", "cache_read", "cache_write")
_WHERE_OTHER = {
    "reasoning": "output",
    "audio_input": "input",
    "audio_output": "output",
    "audio_cache_read": "cache_read",
    "image_input": "input",
    "image_cache_read": "cache_read",
}
"""Kinds shown only where they cost something else than what they are part of."""


class Row(Struct, frozen=True):
    """A target of a model, with its price."""

    pipeline: str | None
    """The pipeline whose plugin prices it; `None` where none does, and the price list alone was asked."""
    model: str
    provider: str | None
    """`None` for a model that leads nowhere."""
    target: str
    """The provider's name of it; a pattern stands for whatever name is asked for."""
    source: str
    rates: Rates | None


def run(path: Path, names: Sequence[str], as_json: bool) -> int:
    """Print the prices of all models, or of those named. Raises `ConfigErrors` where the config is wrong."""
    loaded = read_config(path, os.environ)
    book = _book(loaded)
    asyncio.run(book.load())
    found = rows(loaded, book, names)
    unknown = [row for row in found if row.source == "unknown"]
    if as_json:
        plain: dict[str, Any] = {"library": book.source or None, "prices": [_plain(row) for row in found]}
        plain["unknown"] = [_name(row) for row in unknown]
        print(msgspec.json.format(msgspec.json.encode(plain), indent=2).decode())
        return 0
    print("\n".join(lines(found)))
    if unknown:
        print("\nPrice unknown: " + ", ".join(dict.fromkeys(_name(row) for row in unknown)))
    return 0


def _book(loaded: Loaded) -> PriceBook:
    settings = loaded.settings
    host = null_host(settings)
    urls = {name: provider.base_url for name, provider in settings.providers.items()}
    return PriceBook(urls, Path(settings.state), host.clock, host.log, _tell)


def _tell(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


# --- what is found ----------------------------------------------------------------------------------------------------


def rows(loaded: Loaded, book: PriceBook, names: Sequence[str]) -> list[Row]:
    """A row for each target, as each pipeline prices it."""
    targets = [each for name in names or loaded.settings.models for each in _targets(loaded, name)]
    return [
        _row(pipeline, pricing, book, model, target)
        for pipeline, pricing in _pricings(loaded, book)
        for model, target in targets
    ]


def _targets(loaded: Loaded, name: str) -> list[tuple[str, Target | None]]:
    models = loaded.settings.models
    leads = models.get(name) or models.get(Catalogue(models).label(name))
    if leads is None:
        return [(name, None)]
    return [(name, each) for each in as_choice(leads).leads_to]


def _pricings(loaded: Loaded, book: PriceBook) -> list[tuple[str | None, Pricing]]:
    """The plugins that price calls, by pipeline; without any, what the price lists say."""
    host = replace(null_host(loaded.settings), prices=book)
    pipelines = load(loaded.settings, host, loaded.base)
    found: list[tuple[str | None, Pricing]] = []
    for name, pipeline in pipelines.items():
        plugins: Iterable[Plugin[Any]] = (each.plugin for each in (*pipeline.plugins, *pipeline.attempt))
        found += [(name, plugin) for plugin in plugins if isinstance(plugin, Pricing)]
    return found or [(None, book)]


def _row(pipeline: str | None, pricing: Pricing, book: PriceBook, model: str, target: Target | None) -> Row:
    if target is None:
        return Row(pipeline, model, None, "", "unknown", None)
    name = target.model or model
    rates = pricing.find_rates(target.provider, name)
    if rates is not None:
        source = rates.source or "config"
    else:
        source = book.source if name.endswith("*") and book.knows(target.provider) else "unknown"
    return Row(pipeline, model, target.provider, name, source, rates)


def _name(row: Row) -> str:
    return f"{row.model} ({row.provider}/{row.target})" if row.provider else f"{row.model} (not in the config)"


def _plain(row: Row) -> dict[str, Any]:
    return {
        "pipeline": row.pipeline,
        "model": row.model,
        "provider": row.provider,
        "target": row.target or None,
        "source": row.source,
        "usd_per_million_tokens": None if row.rates is None else _amounts(row.rates),
    }


def _amounts(rates: Rates) -> dict[str, Any]:
    plain: dict[str, Any] = {kind: _usd(_rate(rates, kind)) for kind in (*_ALWAYS, *_WHERE_OTHER)}
    if rates.request:
        plain["usd_per_request"] = _usd(rates.request)
    if rates.above:
        return {"above_input_tokens": rates.above, **plain}
    return {**plain, "tiers": [_amounts(tier) for tier in rates.tiers]}


def _rate(rates: Rates, kind: str) -> int:
    """Of a kind that has no price of its own: of what it is part of."""
    own: int | None = getattr(rates, kind)
    whole: int = getattr(rates, _WHERE_OTHER.get(kind, "input"))
    return whole if own is None else own


def _usd(nano: int) -> str:
    return f"{Decimal(nano) / _NANO:f}"


# --- for people -------------------------------------------------------------------------------------------------------


def lines(found: Sequence[Row]) -> Iterable[str]:
    """The table, one for each pipeline where several price calls."""
    pipelines = list(dict.fromkeys(row.pipeline for row in found))
    for pipeline in pipelines:
        if len(pipelines) > 1:
            yield f"pipeline {pipeline}"
        yield from _table([row for row in found if row.pipeline == pipeline])


def _table(found: Sequence[Row]) -> Iterable[str]:
    every = [rates for row in found if row.rates is not None for rates in (row.rates, *row.rates.tiers)]
    kinds = [*_ALWAYS, *(kind for kind, whole in _WHERE_OTHER.items() if _differs(every, kind, whole))]
    if any(rates.request for rates in every):
        kinds.append("request")
    cells = [("model", "target", "source", *(kind.replace("_", " ") for kind in kinds))]
    for row in found:
        cells.append((row.model, _target(row), row.source, *_cells(row.rates, kinds)))
        for tier in row.rates.tiers if row.rates is not None else ():
            cells.append(("", f"above {tier.above:,} input tokens", "", *_cells(tier, kinds)))
    yield "USD per million tokens" + (", and per request" if "request" in kinds else "")
    yield from table(cells, indent="")


def _differs(every: Iterable[Rates], kind: str, whole: str) -> bool:
    return any(_rate(rates, kind) != getattr(rates, whole) for rates in every)


def _target(row: Row) -> str:
    if row.provider is None:
        return "-"
    return f"{row.provider}/{'(the name asked for)' if row.target.endswith('*') else row.target}"


def _cells(rates: Rates | None, kinds: Sequence[str]) -> list[str]:
    return ["-" if rates is None else _usd(_rate(rates, kind)) for kind in kinds]
