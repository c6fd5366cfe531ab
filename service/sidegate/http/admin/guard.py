"""The guard of the admin listener: who may do more than read metrics and health, or load the console's files.

A path is guarded unless it is listed as open here, so a new one is guarded too.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from sidegate.contract.host import Log
from sidegate.errors import Refusal
from sidegate.http.admin.console import is_console
from sidegate.http.server import through_unix
from sidegate.settings import Admin

OPEN = frozenset({"/metrics", "/livez", "/readyz", "/healthz"})
"""What needs no key: scrapers and probes have none, and no secret and no caller is in it."""

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sidegate admin"'}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guard(admin: Admin, log: Log) -> Middleware:
    """The middleware: the name this machine is called by, then the page a browser stands on, then the key."""
    digest = sha256(admin.key.encode()).digest() if admin.key else None
    names = frozenset({"localhost", *(name.lower() for name in admin.names)}) if admin.loopback else None

    def check(request: web.Request) -> None:
        # No page of a browser comes through a Unix socket, and clients call it whatever they like there.
        local = through_unix(request)
        if names is not None and not local:
            _check_name(request, names)
        if request.path in OPEN:
            return
        if is_console(request.path) and (digest is not None or admin.loopback or local):
            # The page itself, to which a link may lead from anywhere; it cannot be framed. What it asks for is guarded.
            return
        _check_page(request)
        if digest is not None:
            _check_key(request, digest)
        elif not admin.loopback and not local:
            raise Refusal(403, "administration_off", "Administration needs a key here: set admin.key.")

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check(request)
        except Refusal as refusal:
            log.write("admin_refused", {"code": refusal.code, "method": request.method, "remote": request.remote})
            raise
        return await handler(request)

    return guarded


def _check_name(request: web.Request, names: frozenset[str]) -> None:
    """A page of a name that was made to lead here (DNS rebinding) says that name: refuse what is not this machine."""
    for host in request.headers.getall("Host", ()):
        if not _is_here(host, names):
            raise Refusal(421, "wrong_host", "This listener answers to localhost and the names in admin.names.")


def _is_here(host: str, names: frozenset[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name in names or ip_address(name).is_loopback
    except ValueError:
        return False


def _check_page(request: web.Request) -> None:
    """Refuse what a browser sends for a page of another origin: it may reach more than the page's author does."""
    sites = request.headers.getall("Sec-Fetch-Site", ())
    hosts = request.headers.getall("Host", ())
    for origin in request.headers.getall("Origin", ()):
        if [origin.lower().partition("://")[2]] != [host.lower() for host in hosts]:
            raise _cross_site()
    if not {"same-origin", "none"}.issuperset(sites):
        raise _cross_site()


def _cross_site() -> Refusal:
    return Refusal(403, "cross_site", "Pages of other origins may not ask here.")


def _check_key(request: web.Request, digest: bytes) -> None:
    """Digests are compared, in constant time: of the key, neither a part nor the length is told."""
    values = request.headers.getall("Authorization", ())
    scheme, _, key = (values[0] if len(values) == 1 else "").partition(" ")
    given = sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
    if not hmac.compare_digest(given, digest) or scheme.lower() != "bearer":
        message = "The admin key is not valid." if values else "The admin key is needed: Authorization: Bearer KEY."
        raise Refusal(401, "invalid_admin_key" if values else "missing_admin_key", message, headers=_CHALLENGE)
