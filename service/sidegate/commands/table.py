"""Table: rows as columns of text, for people."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

_WIDTH = 110


def table(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Lines in which every column is as wide as its widest cell; the last one is wrapped where it is long."""
    if not rows:
        return []
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)][:-1]
    lines: list[str] = []
    for *cells, last in rows:
        head = indent + "".join(f"{cell:<{width}}  " for cell, width in zip(cells, widths, strict=True))
        room = max(40, _WIDTH - len(head))
        pieces = wrap(last, room, break_on_hyphens=False, break_long_words=False) or [""]
        lines.append((head + pieces[0]).rstrip())
        lines += [" " * len(head) + piece for piece in pieces[1:]]
    return lines
