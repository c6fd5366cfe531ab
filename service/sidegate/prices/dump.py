"""Dump: writes the price lists of genai-prices to standard output as JSON, in the shape that `table` reads.

Run as a script, in a process of its own: the library brings pydantic and an HTTP client, about 30 MB that the gateway
need not carry for a table of a few hundred rows.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import date, time
    from decimal import Decimal

    from genai_prices.types import MatchLogic, ModelInfo, ModelPrice, Provider, TieredPrices

FORMAT = 2
"""Of the shape; another one is not read."""

_KINDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "cache_audio_read_mtok": "audio_cache_read",
    "input_image_mtok": "image_input",
    "cache_image_read_mtok": "image_cache_read",
    "requests_kcount": "request",
}
"""The kinds the gateway counts. Others (hours, searches) cannot be priced by what a provider reports."""


def main() -> None:
    """Everything the library knows. Raises whatever is wrong with it: the process then ends with a failure."""
    import json
    from importlib.metadata import version

    from genai_prices.data_snapshot import get_snapshot

    lists = [_provider(provider) for provider in get_snapshot().providers]
    table = {"format": FORMAT, "library": version("genai-prices"), "providers": lists}
    sys.stdout.write(json.dumps(table, separators=(",", ":")))


def _provider(provider: Provider) -> dict[str, Any]:
    return {
        "id": provider.id,
        "url": provider.api_pattern,
        "fallbacks": provider.fallback_model_providers or [],
        "models": [_model(model) for model in provider.models],
    }


def _model(model: ModelInfo) -> dict[str, Any]:
    from genai_prices.types import ModelPrice

    if isinstance(model.prices, ModelPrice):
        prices = [_price(model.prices, None)]
    else:
        prices = [_price(each.prices, each.constraint) for each in model.prices]
    return {"id": model.id, "match": _match(model.match), "prices": prices}


def _price(prices: ModelPrice, constraint: Any) -> dict[str, Any]:
    from genai_prices.types import StartDateConstraint

    found = {kind: value for key, kind in _KINDS.items() if (value := getattr(prices, key, None)) is not None}
    price: dict[str, Any] = {"kinds": {kind: _amounts(value) for kind, value in found.items()}}
    if isinstance(constraint, StartDateConstraint):
        price["since"] = constraint.start_date.isoformat()
    elif constraint is not None:
        price["hours"] = [_utc(constraint.start_time), _utc(constraint.end_time)]
    return price


def _amounts(value: Decimal | TieredPrices) -> list[tuple[int, str]]:
    """Pairs of the tokens above which it counts, and the amount as a decimal."""
    from genai_prices.types import TieredPrices

    if isinstance(value, TieredPrices):
        return [(-1, str(value.base)), *((tier.start, str(tier.price)) for tier in value.tiers)]
    return [(-1, str(value))]


def _utc(moment: time) -> str:
    """A time without a zone is UTC's; one with another zone is brought to it."""
    from datetime import UTC, datetime

    if moment.tzinfo is None:
        return moment.isoformat()
    day: date = datetime(1970, 1, 2, tzinfo=UTC).date()
    return datetime.combine(day, moment).astimezone(UTC).time().isoformat()


def _match(logic: MatchLogic) -> tuple[str, str, list[Any]]:
    from genai_prices import types

    match logic:
        case types.ClauseEquals():
            return "equals", logic.equals.lower(), []
        case types.ClauseStartsWith():
            return "starts", logic.starts_with.lower(), []
        case types.ClauseEndsWith():
            return "ends", logic.ends_with.lower(), []
        case types.ClauseContains():
            return "contains", logic.contains.lower(), []
        case types.ClauseRegex():
            return "regex", logic.regex, []
        case types.ClauseOr():
            return "or", "", [_match(each) for each in logic.or_]
        case types.ClauseAnd():
            return "and", "", [_match(each) for each in logic.and_]


if __name__ == "__main__":
    main()
