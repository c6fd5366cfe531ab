"""Asked: what may be asked of keys, on the command line and by the admin API alike."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from sidegate.contract.allowance import Allowance, BudgetAllowance, Pattern, RateAllowance
from sidegate.contract.keys import Label
from sidegate.errors import BadRequest
from sidegate.keys.key import State

T = TypeVar("T", bound=Struct)

Tags: TypeAlias = Annotated[tuple[Label, ...], Meta(max_length=64)]
Time: TypeAlias = Annotated[str, Meta(min_length=1, max_length=40)]

MOST = 500
"""Keys of one page."""


class Strict(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A typo must not be a silent default."""


class Issue(Strict, frozen=True, kw_only=True):
    """A new key."""

    name: Label
    owner: Label | None = None
    team: Label | None = None
    tags: Tags = ()
    names_end_users: bool = False
    allowance: Allowance | None = None
    expires: Time | None = None
    """`90d`, or a date, or a date and time; `None` for never."""


class AllowanceChange(Strict, frozen=True, kw_only=True):
    """What is not named stays as it is."""

    models: Annotated[tuple[Pattern, ...], Meta(max_length=1000)] | None | UnsetType = UNSET
    limits: Annotated[tuple[RateAllowance, ...], Meta(max_length=16)] | None | UnsetType = UNSET
    concurrency: Annotated[int, Meta(ge=1, le=10**6)] | None | UnsetType = UNSET
    budgets: Annotated[tuple[BudgetAllowance, ...], Meta(max_length=16)] | None | UnsetType = UNSET


class Change(Strict, frozen=True, kw_only=True):
    """Other attributes for a key, as a merge patch (RFC 7396): what is not named stays, null takes away."""

    name: Label | UnsetType = UNSET
    owner: Label | None | UnsetType = UNSET
    team: Label | None | UnsetType = UNSET
    tags: Tags | None | UnsetType = UNSET
    names_end_users: bool | UnsetType = UNSET
    allowance: AllowanceChange | None | UnsetType = UNSET
    expires: Time | None | UnsetType = UNSET


class Rotate(Strict, frozen=True, kw_only=True):
    """Another secret for the same key."""

    grace: Time = "24h"
    """How long the old one is still let in."""


class Filter(Strict, frozen=True, kw_only=True):
    """Which keys, oldest first."""

    owner: Label | None = None
    team: Label | None = None
    name: Label | None = None
    state: State | None = None
    after: Label | None = None
    """The id of the last key of the page before."""
    limit: Annotated[int, Meta(ge=1, le=MOST)] = 100


def read(data: Any, wanted: type[T]) -> T:
    """Plain data as what is asked. Raises `BadRequest` with the field."""
    try:
        return msgspec.convert(data, wanted)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise misread(error) from error


def misread(error: Exception) -> BadRequest:
    """What is wrong, in a line, and in which field."""
    if isinstance(error, RecursionError):
        return BadRequest("The body is nested too deeply.", code="invalid_json")
    problem, _, place = str(error).partition(" - at `$")
    field = place.strip("`.") or None
    if not isinstance(error, msgspec.ValidationError):
        return BadRequest("The body is not valid JSON.", code="invalid_json")
    text = "has characters that have no place there" if "matching regex" in problem else problem.replace("`", "")[:300]
    return BadRequest(f"{field}: {text}" if field else text, param=field)


def merged(old: Allowance | None, change: AllowanceChange | None | UnsetType) -> Allowance | None:
    """The allowance after a change; `None` where nothing is left of it. Raises `BadRequest`."""
    if change is UNSET:
        return old
    if change is None:
        return None
    named = {name: value for name, value in asdict(change).items() if value is not UNSET}
    for name in ("models", "limits", "budgets"):
        if name in named and named[name] is None:
            named[name] = ()
    try:
        made = Allowance(**{**asdict(old or Allowance()), **named})
    except ValueError as error:
        raise BadRequest(f"allowance: {error}", param="allowance") from error
    return None if made == Allowance() else made
