"""`sidegate new-plugin acme-redact`: a package to begin a plugin of one's own from, with tests that pass."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from sidegate.errors import ConfigError
from sidegate.finder import GROUP
from sidegate.scaffold import Names, write


def run(name: str, into: Path) -> int:
    """Write it, and say what to type next. Raises `ConfigError` where that cannot be."""
    if name in {point.name for point in entry_points(group=GROUP)}:
        raise ConfigError("", f"a plugin called {name} is installed already: choose another name")
    written = write(Names(name), into)
    for path in written:
        print(path)
    folder = into / name
    print(f"\nNext:\n  pip install -e '{folder}[test]'\n  pytest {folder}\n  sidegate serve {folder}/sidegate.yaml")
    return 0
