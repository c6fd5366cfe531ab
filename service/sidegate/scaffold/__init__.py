"""Scaffold: a plugin of one's own, complete: a package that can be installed, with tests that pass, to begin from."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from sidegate.errors import ConfigError

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_LONGEST = 64
_FILES = MappingProxyType(
    {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README.md.txt",
        "sidegate.yaml": "sidegate.yaml.txt",
        "src/@module@/__init__.py": "plugin.py.txt",
        "src/@module@/py.typed": "",
        "tests/test_@word@.py": "tests.py.txt",
    }
)
"""What is written, and the template it is made from."""


class Names:
    """What a plugin called `acme-redact` is called elsewhere. Raises `ConfigError` where it cannot be called so."""

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name) or len(name) > _LONGEST:
            raise ConfigError("", f"a name is up to {_LONGEST} of a-z, 0-9 and single dashes, such as acme-redact")
        self.name = name
        self.module = name.replace("-", "_")
        words = name.split("-")
        # `acme-redact` is Acme's: its class need not say so.
        self.word = "_".join(words[1:] or words)
        self.cls = "".join(word.capitalize() for word in words[1:] or words)
        if keyword.iskeyword(self.module) or self.module in sys.stdlib_module_names or _taken(self.module):
            raise ConfigError("", f"a module called {self.module} is there already: choose another name")
        if not self.cls.isidentifier() or keyword.iskeyword(self.cls) or self.cls in _OF_THE_TEMPLATE:
            raise ConfigError("", f"{self.cls} cannot be the name of its class: choose another name")
        if self.cls.startswith("Test"):
            raise ConfigError("", f"pytest would take {self.cls} for tests: choose another name")

    def fill(self, text: str) -> str:
        """The text of a template, with names in their places."""
        told = {"name": self.name, "module": self.module, "word": self.word, "Class": self.cls}
        told["imports"] = ", ".join(sorted(("Settings", self.cls)))
        for place, name in told.items():
            text = text.replace(f"@{place}@", name)
        return text


_OF_THE_TEMPLATE = frozenset(
    ("Settings", "Words", "Rewording", "Word", "Text", "Chunk", "Call", "Plugin", "Reply", "Host", "Handler", "Ending")
)
"""Names that its module has already."""


def _taken(module: str) -> bool:
    return module in ("sidegate", "sidegate_plugins", "msgspec", "pytest", "tests", "src")


def write(names: Names, into: Path) -> list[Path]:
    """The files, in a new folder of the name below `into`. Raises `ConfigError` where it is there already."""
    folder = into / names.name
    try:
        folder.mkdir()
    except FileExistsError:
        raise ConfigError("", f"{folder} is there already: nothing was written") from None
    except OSError as error:
        raise ConfigError("", f"cannot make {folder}: {error.strerror}") from None
    templates = files(__name__)
    written = []
    for path, template in _FILES.items():
        target = folder / names.fill(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = names.fill((templates / template).read_text(encoding="utf-8")) if template else ""
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written
