"""What a token lets its bearer use: claims read as an `Allowance`, strictly. What is not understood is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from sidegate.contract import Allowance, BudgetAllowance, Enforced, RateAllowance
from sidegate_plugins._jwt_token import TokenError

T = TypeVar("T")


def read_allowance(limits: Any, concurrency: Any, budgets: Any) -> Allowance | None:
    """The claims as they came, `None` where there is none. Raises `TokenError` where one has another shape."""
    if limits is concurrency is budgets is None:
        return None
    found = {
        "limits": tuple(_items("limits", limits, RateAllowance)),
        "concurrency": concurrency,
        "budgets": tuple(_items("budgets", budgets, BudgetAllowance)),
    }
    if concurrency is not None and type(concurrency) is not int:
        raise TokenError("bad_claim", "concurrency: expected an integer")
    # As the Structs of `msgspec.convert` are taken for what they are, only the whole is judged here.
    return _converted("limits, concurrency or budgets", found, Allowance)


def needs(*, limits: str, concurrency: str, budgets: str) -> Iterator[Enforced]:
    """What must be enforced further in for claims at these paths to hold."""
    if limits:
        yield "limits"
    if concurrency:
        yield "concurrency"
    if budgets:
        yield "budgets"


def _items(claim: str, value: Any, wanted: type[T]) -> Iterator[T]:
    """A list of objects, or one; a plain amount stands for the usual: requests a minute, USD a month."""
    for item in value if isinstance(value, list) else () if value is None else (value,):
        yield _converted(claim, _spelt_out(item, wanted), wanted)


def _spelt_out(item: Any, wanted: type[Any]) -> Any:
    if wanted is RateAllowance and type(item) is int:
        return {"requests": item}
    if wanted is BudgetAllowance and type(item) in (int, float, str):
        return {"amount_usd": item}
    return item


def _converted(claim: str, value: Any, wanted: type[T]) -> T:
    try:
        return msgspec.convert(value, wanted)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise TokenError("bad_claim", f"{claim}: {error}") from None
