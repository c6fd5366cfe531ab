"""`sidegate keys`: issue, list, show, rotate, revoke and change API keys. A gateway may run meanwhile, or none.

A secret is printed once, on standard output; every change is a line of JSON on standard error, as in the gateway's log.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from sidegate.commands.check import made
from sidegate.commands.keys_asked import attributes
from sidegate.commands.keys_table import lines, one
from sidegate.contract.host import SystemClock
from sidegate.errors import ConfigError, Refusal
from sidegate.keys.asked import MOST, Change, Filter, Issue, Rotate, read
from sidegate.keys.desk import Desk, Told
from sidegate.keys.key import Shown
from sidegate.keys.sql import SqlKeys
from sidegate.ledger.database import PLACE, is_postgres
from sidegate.ledger.opening import open_database
from sidegate.ledger.sqlite_database import sqlite_path
from sidegate.loader import Plugins, lets_in
from sidegate.telemetry.logs import JsonLog


def run(options: argparse.Namespace) -> int:
    """Do what one of the tasks says. Raises `ConfigError` where it cannot be done."""
    loaded, plugins = made(options.config)
    url = loaded.settings.ledger.url
    if not url:
        raise ConfigError(PLACE, "is empty, so there is nowhere to keep keys")
    if options.task != "issue" and not is_postgres(url) and not (file := sqlite_path(url)).exists():
        raise ConfigError(PLACE, f"{file} is not there: no key has been issued yet")
    database = open_database(url)
    try:
        asyncio.run(_run(SqlKeys(database, database), plugins, options))
    except Refusal as error:
        raise ConfigError("", _said(error)) from error
    return 0


def _said(error: Refusal) -> str:
    return str(error.__cause__ or error.message) if error.status == 503 else error.message


async def _run(store: SqlKeys, plugins: Plugins, options: argparse.Namespace) -> None:
    clock = SystemClock()
    try:
        desk = Desk(store, clock, JsonLog(sys.stderr.buffer, clock), f"cli:{_user()}")
        await _TASKS[options.task](_Task(desk, plugins, options))
    finally:
        await store.close()


def _user() -> str:
    """Who runs the command, as far as the system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


class _Task:
    """One run of the command."""

    def __init__(self, desk: Desk, plugins: Plugins, options: argparse.Namespace) -> None:
        self._desk = desk
        self._plugins = plugins
        self._options = options

    async def issue(self) -> None:
        asked = attributes(self._options, clearing=False)
        self._told(await self._desk.issue(read({"name": self._options.name, **asked}, Issue)))

    async def rotate(self) -> None:
        asked = {} if self._options.grace is None else {"grace": self._options.grace}
        self._told(await self._desk.rotate(await self._id(), read(asked, Rotate)))

    async def revoke(self) -> None:
        self._show(await self._desk.revoke(await self._id()))

    async def change(self) -> None:
        asked = attributes(self._options, clearing=True)
        if not asked:
            raise ConfigError("", "say what is to be changed: see sidegate keys change --help")
        key = await self._desk.change(await self._id(), read(asked, Change))
        self._show(key)
        self._warn(key)

    async def show(self) -> None:
        self._show(await self._desk.show(await self._id()))

    async def listed(self) -> None:
        named = ("owner", "team", "name", "state")
        asked = {name: given for name in named if (given := getattr(self._options, name)) is not None}
        keys = await self._all(asked)
        if self._options.json:
            _print(keys)
        else:
            print("\n".join(lines(keys)) if keys else "no keys")

    async def _all(self, asked: dict[str, Any]) -> list[Shown]:
        keys: list[Shown] = []
        after: dict[str, str] = {}
        while True:
            page = await self._desk.page(read({**asked, **after, "limit": MOST}, Filter))
            keys += page.keys
            if page.next is None:
                return keys
            after = {"after": page.next}

    async def _id(self) -> str:
        """The key that is meant: by its id, or by its name where one key of that name is not revoked."""
        wanted = str(self._options.key)
        if wanted.startswith("key-"):
            return wanted
        keys = [key for key in await self._all({"name": wanted}) if key.state != "revoked"]
        if not keys:
            raise ConfigError("", "there is no key of this id or name")
        if len(keys) > 1:
            raise ConfigError("", f"several keys have this name: say {' or '.join(key.id for key in keys)}")
        return keys[0].id

    def _told(self, told: Told) -> None:
        if self._options.json:
            _print(told)
        else:
            print(f"API key: {told.secret}\n  shown this once; only its digest is kept\n")
            print("\n".join(one(told.key)))
        self._warn(told.key)

    def _show(self, key: Shown) -> None:
        if self._options.json:
            _print(key)
        else:
            print("\n".join(one(key)))

    def _warn(self, key: Shown) -> None:
        sys.stdout.flush()
        for warning in lets_in(self._plugins, key.allowance):
            print(f"warning: {warning}", file=sys.stderr)


_TASKS: dict[str, Callable[[_Task], Awaitable[None]]] = {
    "issue": _Task.issue,
    "list": _Task.listed,
    "show": _Task.show,
    "rotate": _Task.rotate,
    "revoke": _Task.revoke,
    "change": _Task.change,
}


def _print(answer: Struct | Sequence[Struct]) -> None:
    print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
