"""What `sidegate serve` says once it is ready."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from sidegate import __version__

if TYPE_CHECKING:
    from sidegate.gateway import Gateway

FIRST_KEY = "first.key"
"""The file, in the state folder, of a key that was made at the first start."""


def lines(gateway: Gateway) -> list[str]:
    """Where it listens, what plugins had to say, and a `curl` line that streams an answer when pasted."""
    said = [f"Sidegate {__version__} is ready: {', '.join(gateway.urls)}"]
    if gateway.admin_urls:
        said[0] += f"  (metrics and health: {', '.join(gateway.admin_urls)})"
        said += _console(gateway)
    said += [f"  {told}" for told in gateway.service.told]
    model = next((name for name in gateway.service.catalogue.names), None)
    # Through TLS, `curl` would need to be told whom to trust, and perhaps who asks.
    if model is not None and gateway.settings.listen.tls is None:
        said += ["", "Try it:", *_curl(gateway.url, model, Path(gateway.settings.state) / FIRST_KEY)]
    return said


def _console(gateway: Gateway) -> list[str]:
    """Where a browser finds it: not through a Unix socket, and not where nobody may administer."""
    admin = gateway.settings.admin
    if admin is None or not (admin.key or admin.loopback):
        return []
    return [f"  console: {url}/console" for url in gateway.admin_urls if url.startswith("http")]


def _curl(url: str, model: str, key: Path) -> list[str]:
    credential = (
        f'"Authorization: Bearer $(cat {shlex.quote(str(key))})"' if key.exists() else '"Authorization: Bearer $KEY"'
    )
    path = url.removeprefix("unix:")
    where = url if path == url else f"--unix-socket {shlex.quote(path)} http://localhost"
    return [
        f"  curl -N {where}/v1/chat/completions \\",
        f"    -H {credential} -H 'Content-Type: application/json' \\",
        f"""    -d '{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'""",
    ]
