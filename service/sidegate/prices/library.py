"""Library: gets the price lists out of genai-prices once, in a process that ends, and keeps them as a file."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from sidegate.prices.table import PriceList, read

LIBRARY = "genai-prices"
DUMP_SECONDS = 30.0
"""Longest that is waited for the library to write its lists; it takes a third of a second."""

_SCRIPT: Final = Path(__file__).with_name("dump.py")
_KEPT = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH")
"""Of the environment: the process gets no secrets."""


class PricesUnavailable(Exception):
    """There are no price lists; the message says why, for whoever runs the gateway."""


def installed() -> str:
    """The version of the library. Raises `PricesUnavailable` where there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(LIBRARY)
    except PackageNotFoundError:
        raise PricesUnavailable(f"{LIBRARY} is not installed") from None


async def price_lists(version: str, folder: Path, urls: Mapping[str, str]) -> dict[str, PriceList]:
    """Those of the providers at `urls`, by the urls' keys; from the file of this version in `folder`, if it is whole.

    Raises `PricesUnavailable`.
    """
    path = folder / f"{LIBRARY}-{Path(version).name}.json"
    kept = _kept(path)
    if kept:
        # A file that is cut or changed is made anew.
        with suppress(ValueError):
            return read(kept, version, urls)
    data = await _dumped()
    try:
        lists = read(data, version, urls)
    except ValueError as error:
        raise PricesUnavailable(f"{LIBRARY} {version} cannot be read: {error}") from error
    _keep(path, data)
    return lists


def _kept(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _keep(path: Path, data: bytes) -> None:
    """Whole or not at all. Where nothing can be written, the next start asks the library again."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()


async def _dumped() -> bytes:
    environ = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", str(_SCRIPT), stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=environ
        )
        async with asyncio.timeout(DUMP_SECONDS):
            data = await _output(process)
    except (OSError, TimeoutError) as error:
        raise PricesUnavailable(f"{LIBRARY} did not answer") from error
    if process.returncode:
        raise PricesUnavailable(f"{LIBRARY} cannot be loaded")
    return data


async def _output(process: Process) -> bytes:
    try:
        data, _ = await process.communicate()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return data
