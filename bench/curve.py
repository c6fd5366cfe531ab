"""A curve: what something costs with more and more of it, and whether it is a line."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from itertools import pairwise

Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Curve:
    """One plot: what grows, and what it costs."""

    key: str
    title: str
    axis: str
    unit: str = "instructions a call, millions"
    lines: dict[str, Points] = field(default_factory=dict)


def bends(points: Points, most: float = 1.5) -> bool:
    """Whether it rises ever more steeply: a step's slope is beyond `most` times that of the steps before it. What
    rises by less than a tenth in all is flat."""
    if len(points) < 3 or points[-1][1] < points[0][1] * 1.1:
        return False
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in pairwise(points)]
    return slopes[-1] > most * max(statistics.mean(slopes[:-1]), 0.0)


def told(curve: Curve) -> str:
    """As text, a line for each line."""
    lines = [curve.title]
    for label, points in curve.lines.items():
        values = "  ".join(f"{x:,.0f}: {y:.3g}" for x, y in points)
        lines.append(f"  {label}: {values}{'  BENDS' if bends(points) else ''}")
    return "\n".join(lines)
