"""The command line: `sidegate serve`, `check`, `explain`, `plugins`, `new-plugin`, `prices`, `usage` and others.

Exit codes: 0 fine, 2 the config (or the command line) is wrong, 130 interrupted. A mistake in a config is one line on
standard error, never a traceback. Heavy imports wait until a command needs them: this one is run at every start.
"""

from __future__ import annotations

import argparse
import errno
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidegate import __version__

if TYPE_CHECKING:
    from sidegate.gateway import Gateway

DEFAULT_CONFIG = Path("config/sidegate.yaml")

OK = 0
MISTAKE = 2
INTERRUPTED = 130

_FULL = (errno.ENOSPC, errno.EIO)

USAGE = {
    "by": ("NAMES", "what to tell apart, with commas: caller, model, day, ... (default: model)"),
    "since": ("TIME", "7d, 24h, 2026-11-22, or a date and time (default: 7d)"),
    "until": ("TIME", "the same; not included (default: now)"),
    "timezone": ("NAME", "whose days and hours, such as Europe/Berlin (default: UTC)"),
    "where": ("NAME=VALUE", "only such calls, as in caller=ann; may stand there several times"),
}
"""The options of `usage` that make up its question."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    from sidegate.errors import ConfigError

    parser = _parser()
    options, stray = parser.parse_known_args(arguments)
    if options.command == "prices" and not any(word.startswith("-") for word in stray):
        # Before Python 3.12, argparse takes no more models after an option.
        options.models += stray
    elif stray:
        parser.error(f"unrecognized arguments: {' '.join(stray)}")
    if options.command is None:
        parser.print_help(sys.stderr)
        return MISTAKE
    if sys.stdout is None:
        # Closed by whoever called: what is said there is for nobody.
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    try:
        code = _run(options)
        sys.stdout.flush()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; the interpreter must not flush into the closed pipe once more.
        _say_no_more()
        return OK
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        _say_no_more()
        print(f"what was asked for cannot be written: {error.strerror}", file=sys.stderr)
        return MISTAKE
    return code


def _say_no_more() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sidegate", description="A sidecar gateway for LLM calls: exact on streams, exact on money."
    )
    parser.add_argument("--version", action="version", version=f"sidegate {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the gateway")
    serve.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help=f"default: {DEFAULT_CONFIG}")

    serve.add_argument("--workers", type=int, metavar="N", help="processes; otherwise what the config says")

    check = commands.add_parser("check", help="say every mistake in a config, or that there is none")
    _add_config(check)
    check.add_argument("--workers", type=int, metavar="N", help="as for `serve`")

    explain = commands.add_parser("explain", help="show what a config comes to: routes, plugins in order, models")
    _add_config(explain)
    explain.add_argument("--json", action="store_true", help="for programs")
    explain.add_argument("--call", metavar="ID", help="what each plugin did to this call, and how long it took")
    explain.add_argument("--admin", metavar="URL", help="with --call: the admin listener, if not where the config says")

    plugins = commands.add_parser("plugins", help="show what a config may use, and the settings of each plugin")
    plugins.add_argument("name", nargs="?", metavar="NAME", help="only this one, with its settings")
    plugins.add_argument("--json", action="store_true", help="for programs, with JSON Schemas")

    new = commands.add_parser("new-plugin", help="write a package to begin a plugin of your own from, with its tests")
    new.add_argument("name", metavar="NAME", help="of the package, such as acme-redact")
    new.add_argument("--into", type=Path, default=Path(), metavar="FOLDER", help="where (default: here)")

    prices = commands.add_parser("prices", help="show what each model costs, and where that price comes from")
    prices.add_argument("config", type=Path, metavar="CONFIG")
    prices.add_argument("models", nargs="*", metavar="MODEL", help="only these; also names that a pattern stands for")
    prices.add_argument("--json", action="store_true", help="for programs")

    usage = commands.add_parser("usage", help="show who used what and what it cost, from the ledger")
    _add_config(usage)
    for name, (metavar, said) in USAGE.items():
        usage.add_argument(f"--{name}", action="append", metavar=metavar, help=said)
    usage.add_argument("--format", choices=("table", "csv", "json"), default="table")

    from sidegate.commands.keys_asked import add_parser as add_keys

    add_keys(commands, DEFAULT_CONFIG)

    migrate = commands.add_parser("migrate", help="bring the ledger's database to this version of Sidegate")
    _add_config(migrate)
    migrate.add_argument("--check", action="store_true", help="only say what would be done; exit status 1 if anything")

    ledger = commands.add_parser("ledger", help="look after the record of calls")
    tasks = ledger.add_subparsers(dest="task", metavar="TASK", required=True)
    reconcile = tasks.add_parser("reconcile", help="list the calls whose cost nobody knows, or say what one has cost")
    _add_config(reconcile)
    answer = reconcile.add_mutually_exclusive_group()
    answer.add_argument("--release", metavar="ID", help="this call has cost nothing: no budget holds anything for it")
    answer.add_argument("--settle", metavar="ID", help="this call has cost what --cost says")
    reconcile.add_argument("--cost", metavar="USD", help="with --settle")
    reconcile.add_argument("--json", action="store_true", help="for programs")
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    said = f"default: {DEFAULT_CONFIG}"
    parser.add_argument("config", nargs="?", type=Path, default=DEFAULT_CONFIG, metavar="CONFIG", help=said)


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "serve":
            return _serve(options.config, _instead(options))
        case "check":
            from sidegate.commands.check import run as check

            return check(options.config, _instead(options))
        case "explain" if options.call is not None:
            from sidegate.commands.explain_call import run as explain_call

            return explain_call(options.config, options.call, options.json, options.admin)
        case "explain":
            from sidegate.commands.explain import run as explain

            return explain(options.config, options.json)
        case "usage":
            from sidegate.commands.usage import run as usage

            asked = {name: given for name in USAGE if (given := getattr(options, name)) is not None}
            return usage(options.config, asked, options.format)
        case "new-plugin":
            from sidegate.commands.new_plugin import run as new_plugin

            return new_plugin(options.name, options.into)
        case "migrate":
            from sidegate.commands.migrate import run as migrate

            return migrate(options.config, options.check)
        case "prices":
            from sidegate.commands.prices import run as prices

            return prices(options.config, options.models, options.json)
        case "keys":
            from sidegate.commands.keys import run as keys

            return keys(options)
        case "ledger":
            from sidegate.commands.ledger import reconcile

            return reconcile(
                options.config,
                release=options.release,
                settle=options.settle,
                cost=options.cost,
                as_json=options.json,
            )
        case _:
            from sidegate.commands.plugins import run as plugins

            return plugins(options.name, options.json)


def _instead(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says in place of the config."""
    return {} if options.workers is None else {"workers": options.workers}


def _serve(path: Path | None, instead: dict[str, Any]) -> int:
    from sidegate.config import read_config
    from sidegate.errors import ConfigError

    if path is None and not DEFAULT_CONFIG.exists():
        raise ConfigError("", f"no config: name one, or write {DEFAULT_CONFIG}")
    loaded = read_config(path or DEFAULT_CONFIG, os.environ, instead)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if loaded.settings.workers > 1:
        from sidegate.workers.supervisor import supervise

        return supervise(loaded, _say)
    # What is loaded now stays: there is nothing to collect before the gateway stands.
    gc.disable()
    from sidegate.gateway import serve  # the whole of the service: only once the config is right

    return serve(loaded, _announce)


def _announce(gateway: Gateway) -> None:
    """On the terminal, beside the log: where it listens, what plugins had to say, and a line to paste."""
    from sidegate.commands.welcome import lines

    _say(lines(gateway))


def _say(lines: Sequence[str]) -> None:
    print("\n".join(lines), file=sys.stderr, flush=True)
