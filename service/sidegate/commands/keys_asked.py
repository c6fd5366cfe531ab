"""What `sidegate keys` takes: its options, and what they say of a key. The words of the admin API, but flat."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sidegate.errors import ConfigError

_ATTRIBUTES = ("owner", "team", "expires")
_RATES = {"limit": "requests", "input_tokens": "input_tokens", "output_tokens": "output_tokens"}
CLEARED: dict[str, tuple[str, ...]] = {
    "owner": ("owner",),
    "team": ("team",),
    "tags": ("tags",),
    "expires": ("expires",),
    "models": ("allowance", "models"),
    "limits": ("allowance", "limits"),
    "concurrency": ("allowance", "concurrency"),
    "budgets": ("allowance", "budgets"),
}
"""What `--clear` takes away, and where it stands."""


def add_parser(commands: Any, config: Path) -> None:
    """The options of all tasks."""
    keys = commands.add_parser("keys", help="issue, list, rotate, revoke and change API keys")
    tasks = keys.add_subparsers(dest="task", metavar="TASK", required=True)

    def task(name: str, said: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = tasks.add_parser(name, help=said)
        made.add_argument("--config", type=Path, default=config, metavar="CONFIG", help=f"default: {config}")
        made.add_argument("--json", action="store_true", help="for programs")
        return made

    issue = task("issue", "make a key and show it once")
    issue.add_argument("name", metavar="NAME", help="who calls with it: what limits, ledger and log go by")
    _add_attributes(issue)

    listed = task("list", "show all keys, oldest first")
    for name in ("owner", "team", "name"):
        listed.add_argument(f"--{name}", metavar=name.upper(), help="only such keys")
    listed.add_argument("--state", choices=("active", "expired", "revoked"))

    show = task("show", "show one key")
    rotate = task("rotate", "give a key another secret; its id, limits and budgets go on")
    rotate.add_argument("--grace", metavar="TIME", help="how long the old secret is let in, too (default: 24h)")
    revoke = task("revoke", "end a key for good")
    change = task("change", "change what a key is and may use")
    for one in (show, rotate, revoke, change):
        one.add_argument("key", metavar="KEY", help="its id, or its name where that is clear")
    change.add_argument("--name", metavar="NAME", help="who calls with it")
    _add_attributes(change)
    change.add_argument("--clear", action="append", choices=tuple(CLEARED), help="take away; may be repeated")


def _add_attributes(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--owner", metavar="WHO", help="who answers for it, for records only")
    add("--team", metavar="TEAM", help="whose limits, budgets and reports it counts for")
    add("--tags", action="append", metavar="TAGS", help="labels for reports, with commas")
    add("--names-end-users", action=argparse.BooleanOptionalAction, help="believe what it says of its end users")
    add("--expires", metavar="TIME", help="90d, 12h, 2027-01-01, or a date and time with its zone")
    add("--models", action="append", metavar="MODELS", help="all it may use, with commas; a name may end in *")
    add("--limit", action="append", metavar="N/PERIOD", help="calls, as in 60/minute (second, minute, hour, day)")
    add("--input-tokens", action="append", metavar="N/PERIOD", help="tokens sent, as in 100000/minute")
    add("--output-tokens", action="append", metavar="N/PERIOD", help="tokens received")
    add("--concurrency", type=int, metavar="N", help="calls at a time")
    add("--budget", action="append", metavar="USD/PERIOD", help="as in 20/month (day, week, month); refuses beyond it")
    add("--soft-budget", action="append", metavar="USD/PERIOD", help="the same, but only warns")
    add("--timezone", metavar="NAME", help="when days of its budgets begin, such as Europe/Berlin (default: UTC)")


def attributes(options: argparse.Namespace, *, clearing: bool) -> dict[str, Any]:
    """What the options say, as a request of the admin API says it. Raises `ConfigError`."""
    asked: dict[str, Any] = {name: given for name in _ATTRIBUTES if (given := getattr(options, name)) is not None}
    if clearing and options.name is not None:
        asked["name"] = options.name
    if options.tags is not None:
        asked["tags"] = _words(options.tags)
    if options.names_end_users is not None:
        asked["names_end_users"] = options.names_end_users
    allowance = _allowance(options)
    if allowance:
        asked["allowance"] = allowance
    if clearing:
        _clear(asked, options.clear or ())
    return asked


def _clear(asked: dict[str, Any], names: Sequence[str]) -> None:
    for name in names:
        *path, last = CLEARED[name]
        place = asked
        for word in path:
            place = place.setdefault(word, {})
        if last in place:
            raise ConfigError("", f"--clear {name} and a new value exclude each other")
        place[last] = None


def _allowance(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options.models is not None:
        found["models"] = _words(options.models)
    limits = [
        {kind: _count(option, amount), "period": period}
        for option, kind in _RATES.items()
        for amount, period in _each(option, getattr(options, option))
    ]
    if limits:
        found["limits"] = limits
    if options.concurrency is not None:
        found["concurrency"] = options.concurrency
    budgets = [
        {"amount_usd": amount, "period": period, "hard": option == "budget", "timezone": options.timezone or "UTC"}
        for option in ("budget", "soft_budget")
        for amount, period in _each(option, getattr(options, option))
    ]
    if budgets:
        found["budgets"] = budgets
    elif options.timezone is not None:
        raise ConfigError("", "--timezone belongs to --budget or --soft-budget")
    return found


def _each(option: str, given: Sequence[str] | None) -> list[tuple[str, str]]:
    found = []
    for text in given or ():
        amount, slash, period = text.partition("/")
        if not slash or not amount or not period:
            raise ConfigError("", f"--{option.replace('_', '-')}: write an amount and a period, as in 60/minute")
        found.append((amount, period))
    return found


def _count(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise ConfigError("", f"--{option.replace('_', '-')}: the amount is a whole number")
    return int(text)


def _words(given: Sequence[str]) -> list[str]:
    return [word.strip() for text in given for word in text.split(",") if word.strip()]
