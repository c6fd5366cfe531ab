"""The manual as data: its pages, their code blocks, and the words in them that name something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.tree import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")],
    key=lambda path: (len(path.parts), path),
)
NOT_CHECKED = re.compile(r"<!-- not checked: (?P<reason>\S.+?) -->")
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `<!-- not checked: why -->` on the line before it keeps it from being tried."""

    page: Path
    line: int
    language: str
    text: str
    checked: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str, checked: bool = True) -> list[Block]:
    """Those of all pages in these languages that are to be checked, or those that are not."""
    every = (block for page in PAGES for block in _blocks(page))
    return [block for block in every if block.checked is checked and block.language in languages]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in _BLOCK.finditer(text):
        before = text[: match.start()].rstrip("\n").rpartition("\n")[2]
        line = text.count("\n", 0, match.start()) + 1
        indent = len(match["indent"])
        lines = "".join(each[indent:] if each.strip() else each for each in match["text"].splitlines(keepends=True))
        yield Block(page, line, match["language"], lines, NOT_CHECKED.fullmatch(before.strip()) is None)


def prose(page: Path) -> str:
    """The page without its blocks."""
    return _BLOCK.sub("", page.read_text())


def inline(page: Path) -> list[str]:
    """What stands in backticks in the prose."""
    return _INLINE.findall(prose(page))


def commands(page: Path) -> Iterator[str]:
    """Each command line of `sidegate` that a page has, in blocks and in the prose."""
    for block in _blocks(page):
        if block.checked and block.language in ("sh", "console", "shell", "bash"):
            for line in block.text.replace("\\\n", " ").splitlines():
                yield line.removeprefix("$ ").partition(" #")[0].partition(" > ")[0].strip()
    yield from inline(page)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE)
    kept = ("".join(letter for letter in head.lower() if letter.isalnum() or letter in " -_") for head in heads)
    return {head.replace(" ", "-") for head in kept}
