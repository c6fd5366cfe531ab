"""Recorded provider traffic: found beside the repository, and handed to tests case by case.

The recordings are not part of the repository. `SIDEGATE_RECORDINGS` names their folder, or it is `shared/wire` in the
repository's parent. Where they are missing, a test that asks for them is skipped and says so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Case:
    """One exchange as it was recorded."""

    name: str
    """`provider/case`."""
    provider: str
    dialect: str
    """As the recordings say it: `chat`, `messages`, `embed`, `responses`, `gemini`."""
    status: int
    stream: bool
    """Whether the body is a stream; an error reply to a streamed request is not."""
    request: bytes | None
    body: bytes = field(repr=False)
    meta: dict[str, Any] = field(repr=False)

    @property
    def good(self) -> bool:
        """Whether the provider did what it was asked for; by how it was recorded, not by what we make of it."""
        return self.status == 200 and not {"error-chunk", "error-event"} & set(self.meta["tags"])

    @property
    def asked(self) -> bool:
        """Whether the request was recorded too."""
        return self.request is not None


def folder() -> Path:
    """Where the recordings are looked for."""
    return Path(os.environ.get("SIDEGATE_RECORDINGS") or REPOSITORY.parent / "shared" / "wire")


def cases(prefix: str) -> list[Case]:
    """The cases whose name starts with `prefix` (`anthropic/messages-stream`), in order; none where none are found."""
    provider, _, rest = prefix.partition("/")
    pattern = f"{provider}/{rest}*.meta.json" if rest else f"{provider}*/*.meta.json"
    return [_read(path) for path in sorted(folder().glob(pattern))]


def parameters(*prefixes: str, only: Callable[[Case], bool] = lambda case: True) -> list[Any]:
    """The cases as pytest parameters named after them, or one that is skipped with the reason."""
    found = [case for prefix in prefixes for case in cases(prefix) if only(case)]
    if found:
        return [pytest.param(case, id=case.name) for case in found]
    reason = f"no recorded provider traffic of {', '.join(prefixes)} in {folder()}"
    return [pytest.param(None, id="missing", marks=pytest.mark.skip(reason=reason))]


def _read(path: Path) -> Case:
    meta = json.loads(path.read_bytes())
    name = str(meta["case"])
    request = path.with_name(path.name.replace(".meta.json", ".request.json"))
    body_file = str(meta["body_file"])
    return Case(
        name=name,
        provider=str(meta["provider"]),
        dialect=str(meta["dialect"]),
        status=int(meta["status"]),
        stream=body_file.endswith(".stream.txt"),
        request=request.read_bytes() if request.exists() else None,
        body=(path.parent / body_file).read_bytes(),
        meta=meta,
    )
