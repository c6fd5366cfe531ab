"""Fixtures: a real browser."""

from __future__ import annotations

from tests.endings.conftest import browser

__all__ = ["browser"]
