"""Plots as SVG, by hand: lines and bars, readable on a light page and on a dark one, and small enough to be kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from xml.sax.saxutils import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 34, 62
COLOURS = ("#2f6fde", "#d9622b", "#2f9e58", "#9b51c4")
BAR = 22

# Grey that is read on white and on black, since a page's colours are not known.
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#808080}.title{font-size:13px;font-weight:600}"
    ".grid{stroke:#808080;stroke-opacity:.25}.line{fill:none;stroke-width:2}"
)


def lines(title: str, axis: str, unit: str, each: Mapping[str, Points]) -> str:
    """A plot of lines, both axes from zero and even: what is straight looks straight."""
    width = max(x for points in each.values() for x, _ in points) or 1.0
    rows = ticks(max(y for points in each.values() for _, y in points))
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(x: float) -> float:
        return LEFT + plot_width * x / width

    def down(y: float) -> float:
        return TOP + plot_height * (1 - y / rows[-1])

    parts = [_text(LEFT, 16, title, "title"), _text(LEFT, HEIGHT - 28, f"{unit}; across: {axis}")]
    for y in rows:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(y):.1f}" y2="{down(y):.1f}"/>')
        parts.append(_text(LEFT - 6, down(y) + 4, short(y), anchor="end"))
    # The last one stands at the edge, inside.
    columns = ticks(width, 4)
    parts += [
        _text(across(x), HEIGHT - BOTTOM + 16, short(x), anchor="end" if across(x) > WIDTH - 30 else "middle")
        for x in columns
        if x <= width
    ]
    for (label, points), colour in zip(each.items(), COLOURS, strict=False):
        way = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        parts.append(
            f'<polyline class="line" stroke="{colour}" points="{way}"><title>{escape(label)}</title></polyline>'
        )
        parts += [f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
    parts += _legend(each)
    return _svg(HEIGHT, parts)


def bars(title: str, groups: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """Groups of bars, each group on a scale of its own: `(heading, {name: value})`."""
    parts = [_text(16, 18, title, "title")]
    at = 34
    for heading, values in groups:
        most = max(values.values()) or 1.0
        parts.append(_text(16, at + 14, heading))
        at += 22
        for number, (name, value) in enumerate(values.items()):
            length = (WIDTH - 200) * value / most
            colour = COLOURS[0] if number == len(values) - 1 else "#9aa5b1"
            parts.append(_text(100, at + 14, name, anchor="end"))
            parts.append(f'<rect x="108" y="{at + 3}" width="{length:.1f}" height="{BAR - 8}" fill="{colour}"/>')
            parts.append(_text(114 + length, at + 14, f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"))
            at += BAR
        at += 10
    return _svg(at, parts)


def ticks(most: float, steps: int = 5) -> list[float]:
    """Round numbers from zero to `most` or just beyond it, some five steps apart."""
    step = most / steps or 1.0
    size = 10 ** math.floor(math.log10(step))
    step = next(size * each for each in (1, 2, 2.5, 5, 10) if size * each >= step * 0.999)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def short(value: float) -> str:
    """A number for an axis: 1,000,000 is 1M."""
    for size, least, letter in ((1e6, 1e6, "M"), (1e3, 1e4, "k")):
        if value >= least:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _legend(names: Iterable[str]) -> list[str]:
    parts, at = [], float(LEFT)
    for name, colour in zip(names, COLOURS, strict=False):
        parts.append(f'<rect x="{at:.0f}" y="{HEIGHT - 18}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(at + 14, HEIGHT - 9, name))
        at += 34 + 6.2 * len(name)
    return parts


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: int, parts: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">\n'
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )
