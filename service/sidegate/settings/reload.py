"""Reload: how a changed config is noticed, and what a reload may take."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from sidegate.settings.strict import Strict


class Reload(Strict, frozen=True, kw_only=True):
    """How the config is read again while the gateway runs. SIGHUP and `POST /admin/reload` always do it."""

    watch: Annotated[
        bool, Meta(description="Look at the config and the files it names, and reload when they have changed.")
    ] = False
    seconds: Annotated[
        float, Meta(ge=0.1, le=3600, description="Between two looks; a change counts once it has held for one.")
    ] = 1.0
    timeout: Annotated[
        float, Meta(ge=0.1, le=600, description="Seconds that new plugins get to start; then the old ones go on.")
    ] = 30.0
