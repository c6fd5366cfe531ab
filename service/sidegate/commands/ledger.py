"""`sidegate ledger reconcile`: what killed gateways left open, and what an operator knows of it."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import msgspec

from sidegate.commands.table import table
from sidegate.config import read_config
from sidegate.contract.host import SystemClock
from sidegate.errors import ConfigError
from sidegate.ledger.database import PLACE, StoreError
from sidegate.ledger.reconcile import Reconciliation, Unfinished

_NANO = 10**9
_MOST_USD = 10**6


def reconcile(path: Path, *, release: str | None, settle: str | None, cost: str | None, as_json: bool) -> int:
    """List every call whose story is incomplete; or end one, which cost nothing (`release`) or `cost` (`settle`)."""
    if (settle is None) != (cost is None):
        raise ConfigError("", "--settle ID and --cost USD belong together")
    nano = 0 if cost is None else _nano(cost)
    loaded = read_config(path, os.environ)
    try:
        ledger = Reconciliation(loaded.settings.ledger.url, SystemClock())
        try:
            if (id := release or settle) is not None:
                ledger.answer(id, nano)
                print(f"{id}: settled at {_usd(nano)} USD")
                return 0
            _show(ledger.unfinished(), as_json)
        finally:
            ledger.close()
    except StoreError as error:
        raise ConfigError(PLACE, f"the ledger cannot be used: {error}") from error
    return 0


def _show(calls: list[Unfinished], as_json: bool) -> None:
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(calls), indent=2).decode())
        return
    if not calls:
        print("nothing to reconcile: every call is settled")
        return
    head = ("CALL", "STATE", "WHY", "STARTED", "CALLER", "MODEL", "PROVIDER", "HELD USD")
    rows = [_row(call) for call in calls]
    print("\n".join(table([head, *rows])))


def _row(call: Unfinished) -> tuple[str, ...]:
    why = call.error or call.ending
    if call.state == "reserved":
        why = f"gateway seen {call.gateway_seen_at or 'never'}"
    started = call.started_at[:19]
    provider = call.provider or ""
    return call.id, call.state, why, started, call.caller, call.model_asked, provider, _usd(call.held_nano_usd)


def _nano(text: str) -> int:
    try:
        nano = Decimal(text) * _NANO
    except ArithmeticError as error:
        raise ConfigError("", "--cost is not a number of USD") from error
    if not nano.is_finite() or not 0 <= nano <= _MOST_USD * _NANO or nano != nano.to_integral_value():
        raise ConfigError("", f"--cost must be 0 to {_MOST_USD:,} USD, no finer than 0.000000001")
    return int(nano)


def _usd(nano: int) -> str:
    return f"{nano // _NANO}.{nano % _NANO:09d}"
