"""The console: a page for whoever operates the gateway. Static files here; what they show they ask of `/admin/`.

The files hold no secret and need no key. The list of those that are served is made from the package's own folder, so a
path can lead nowhere else. Nothing is read before somebody asks for the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

from aiohttp import web

from sidegate.http.admin.answers import no_parameters
from sidegate.http.server import SERVER

PATH: Final = "/console"

HEADERS: Final[Mapping[str, str]] = {
    "Server": SERVER,
    # Kept, and asked for again each time: what a newer gateway serves is seen at once.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}


class File(NamedTuple):
    """One file as it is served."""

    body: bytes
    kind: str
    tag: str


def is_console(path: str) -> bool:
    """Whether the path is of a static file, if there is one."""
    return path == PATH or path.startswith(PATH + "/")


def read_files() -> dict[str, File]:
    """All that is served, by its path below `/console/`."""
    found: dict[str, File] = {}
    _gather(files("sidegate") / "console", "", found)
    return found


def _gather(folder: Traversable, prefix: str, found: dict[str, File]) -> None:
    for each in folder.iterdir():
        kind = TYPES.get(each.name[each.name.rfind(".") :])
        if each.is_dir():
            _gather(each, f"{prefix}{each.name}/", found)
        elif kind is not None and not each.name.startswith("."):
            body = each.read_bytes()
            found[prefix + each.name] = File(body, kind, f'"{sha256(body).hexdigest()[:32]}"')


def add_console(app: web.Application) -> None:
    """`GET /console`: the page. `GET /console/NAME`: what belongs to it."""
    read: dict[str, File] = {}

    async def page(request: web.Request) -> web.StreamResponse:
        no_parameters(request)
        return web.Response(status=308, headers={**HEADERS, "Location": PATH + "/"})

    async def file(request: web.Request) -> web.StreamResponse:
        no_parameters(request)
        if not read:
            read.update(read_files())
        found = read.get(request.match_info["name"] or "index.html")
        if found is None:
            raise web.HTTPNotFound
        headers = {**HEADERS, "ETag": found.tag}
        if _has(request, found.tag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=found.body, content_type=found.kind, charset="utf-8", headers=headers)

    app.router.add_get(PATH, page, allow_head=False)
    app.router.add_get(PATH + "/{name:.*}", file, allow_head=False)


def _has(request: web.Request, tag: str) -> bool:
    """Whether the browser's copy is the same (RFC 9110 section 13.1.2)."""
    tags = ",".join(request.headers.getall("If-None-Match", ()))
    return tag in {each.strip().removeprefix("W/") for each in tags.split(",")}
