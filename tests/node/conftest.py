"""Fixtures: Node with the vendors' clients, and a gateway before a provider of each dialect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.node.process import Node
from tests.node.stage import Stage
from tests.sdk.ground import Ground


class _Kept:
    """One process for a session, and another where a test was its end."""

    node: Node | None = None


@pytest.fixture(scope="session")
def _kept() -> Iterator[_Kept]:
    kept = _Kept()
    yield kept
    if kept.node is not None:
        kept.node.close()


@pytest.fixture
def node(_kept: _Kept) -> Node:
    """Node with the vendors' clients. `scripts/test` installs it where npm is."""
    if _kept.node is None or not _kept.node.alive:
        try:
            _kept.node = Node()
        except FileNotFoundError as missing:
            pytest.skip(f"no Node with the vendors' clients: {missing}")
    return _kept.node


@pytest.fixture(scope="module")
def _stage() -> Iterator[Stage]:
    with closing(Ground()) as ground:
        yield Stage(ground)


@pytest.fixture
def stage(_stage: Stage) -> Stage:
    """A gateway whose models are named after the dialect of their provider; each says what `scripts` has."""
    _stage.reset()
    return _stage
