"""`sidegate new-plugin acme-redact`: a package to begin a plugin of one's own from, with tests that pass."""

from __future__ import annotations

from pathlib import Path

from sidegate.scaffold import Names, write


def run(name: str, into: Path) -> int:
    """Write it, and say what to type next. Raises `ConfigError` where that cannot be."""
    written = write(Names(name), into)
    for path in written:
        print(path)
    folder = into / name
    print(f"\nNext:\n  pip install -e '{folder}[test]'\n  pytest {folder}\n  sidegate serve {folder}/sidegate.yaml")
    return 0
