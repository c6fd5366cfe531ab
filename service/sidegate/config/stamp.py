"""Stamp: what tells a file from the one that was there before, without reading it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

Stamp: TypeAlias = tuple[str, int, int, int, int] | None
"""Where a path leads, and what is there; `None` for nothing."""


def stamp(path: Path) -> Stamp:
    """Differs where the file does."""
    try:
        found = os.stat(path)
        return os.path.realpath(path), found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
    except (OSError, ValueError):
        return None
