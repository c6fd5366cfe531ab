"""The machine that everything runs on: what it is, and how many sockets it lets one process have."""

from __future__ import annotations

import os
import platform
import resource
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("aiohttp", "msgspec", "uvloop", "sidegate")


def python_build() -> str:
    """Its version, and whether it was built with profile-guided optimisation."""
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return f"{platform.python_version()} {platform.python_compiler()}{'' if optimised else ', not optimised'}"


def system() -> str:
    """The kernel, and the numbers of its version without what its builder put behind them."""
    return f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}"


def machine() -> dict[str, str]:
    """What it ran on."""
    found = {"python": python_build(), "system": system(), "cores": str(os.cpu_count())}
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    found["processor"] = models[0].partition(":")[2].strip() if models else platform.machine()
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def allow_sockets() -> int:
    """A thousand streams are two thousand sockets in a server. Gives how many streams there may be."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most // 2 - 500
