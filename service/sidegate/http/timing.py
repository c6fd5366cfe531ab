"""Server-Timing: where the time of a call went, for a browser's network panel and for logs of clients (W3C Server
Timing, a working draft). Only where `server.server_timing` asks for it: it names plugins."""

from __future__ import annotations

import re

from sidegate.contract.call import Call

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)


def server_timing(call: Call, now: float) -> str:
    """`gateway` is all that no attempt took, `provider` the attempts, then each plugin's own time; milliseconds.

    Of a stream, what has passed until its head leaves; plugins that are still at work are in `gateway` alone.
    """
    provider = sum((now if one.ended is None else one.ended) - one.started for one in call.attempts)
    spent = {"gateway": max(0.0, now - call.started - provider), "provider": provider}
    named = {name: seconds for name, seconds in call.notes.plugin_seconds.items() if _TOKEN.fullmatch(name)}
    return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in {**named, **spent}.items())
