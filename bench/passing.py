"""Passing: a plugin that does nothing, to see what the pipeline itself costs."""

from __future__ import annotations

from sidegate.contract import Call, Handler, Plugin, Reply


class Passes(Plugin[None]):
    """Looks at nothing."""

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        return await handler(call)
