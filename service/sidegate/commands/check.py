"""`sidegate check`: would the gateway start with this config? Nothing is opened but the files the config names."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidegate.config import NOTHING, Loaded, Mistakes, convert_settings, read_config
from sidegate.loader import Plugins, load
from sidegate.null_host import null_host
from sidegate.settings import Settings


def run(path: Path, instead: Mapping[str, Any] = NOTHING) -> int:
    """Print that it is right, and what may not be meant. Raises `ConfigErrors` with every mistake."""
    loaded, _ = made(path, instead)
    _check_listeners(loaded.settings)
    print(f"{path}: ok")
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def made(path: Path, instead: Mapping[str, Any] = NOTHING) -> tuple[Loaded, Plugins]:
    """The config, with some fields `instead`, and its plugins, made but not started."""
    loaded = read_config(path, os.environ, instead)
    _check_demo(loaded)
    return loaded, load(loaded.settings, null_host(loaded.settings), loaded.base)


def _check_listeners(settings: Settings) -> None:
    """Certificates and keys, as the listeners will load them, and whose their sockets will be."""
    for place, listener in (("listen", settings.listen), ("admin", settings.admin)):
        if listener is not None and listener.tls is not None:
            from sidegate.http.tls import server_context

            server_context(listener.tls, f"{place}.tls")
        if listener is not None and listener.unix is not None:
            from sidegate.http import unix

            unix.check(listener.unix, f"{place}.unix")


def _check_demo(loaded: Loaded) -> None:
    """The demo provider's settings, whose type is its own; imported only where there are any."""
    demos = {name: item.settings for name, item in loaded.settings.providers.items() if item.settings}
    if not demos:
        return
    from sidegate.upstream.demo import DemoSettings

    mistakes = Mistakes()
    mistakes.secrets |= loaded.secrets
    for name, settings in demos.items():
        convert_settings(settings, DemoSettings, f"providers.{name}.settings", mistakes)
    mistakes.raise_any()
