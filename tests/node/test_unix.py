"""OpenAI's client for Node through a Unix socket."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests.local import folder, on
from tests.node.process import Node
from tests.sdk.ground import Ground


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "buffered"])
def test_it_calls_through_the_socket(node: Node, stream: bool) -> None:
    with folder() as place, closing(Ground()) as ground:
        ground.gateway(on(place / "gate"))
        assert len(node("unix", "chat", path=str(place / "gate"), stream=stream)) > 20
