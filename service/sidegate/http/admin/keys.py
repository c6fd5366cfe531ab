"""Keys by HTTP, on the admin listener: issue, list, show, change, rotate, revoke. The guard asks for the admin's key.

Bodies are strict JSON of at most 64 KiB. A secret is in two answers only, of `POST /admin/keys` and of a rotation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from sidegate.errors import BadRequest
from sidegate.http.admin.answers import no_parameters, said
from sidegate.http.intake import check_head, read_json
from sidegate.http.parameters import parameters
from sidegate.keys.asked import Change, Filter, Issue, Rotate, misread, read
from sidegate.keys.desk import Told
from sidegate.keys.key import Shown
from sidegate.loader import lets_in
from sidegate.service import Service
from sidegate.wire.body import check_duplicates

T = TypeVar("T", bound=Struct)

MAX_BODY_BYTES = 64 * 1024

_KEY = "/admin/keys/{id:[A-Za-z0-9_.-]{1,64}}"


class ToldKey(Struct, frozen=True, kw_only=True):
    """A key with its secret, which is told this once."""

    secret: str
    key: Shown
    warnings: tuple[str, ...]
    """What keeps it from being let in."""


class ChangedKey(Struct, frozen=True, kw_only=True):
    """A key as it is now."""

    key: Shown
    warnings: tuple[str, ...]
    """What keeps it from being let in."""


def add_keys(app: web.Application, service: Service) -> None:
    """The routes of keys."""
    endpoint = _Keys(service)
    app.router.add_post("/admin/keys", endpoint.issue)
    app.router.add_get("/admin/keys", endpoint.page, allow_head=False)
    app.router.add_get(_KEY, endpoint.show, allow_head=False)
    app.router.add_patch(_KEY, endpoint.change)
    app.router.add_post(f"{_KEY}/rotate", endpoint.rotate)
    app.router.add_delete(_KEY, endpoint.revoke)


class _Keys:
    def __init__(self, service: Service) -> None:
        self._desk = service.desk
        self._ground = service.ground
        self._bounds = replace(service.settings.server, max_body_bytes=MAX_BODY_BYTES)

    async def issue(self, request: web.Request) -> web.Response:
        no_parameters(request)
        told = await self._desk.issue(await self._body(request, Issue))
        return self._told(told, 201, {"Location": f"/admin/keys/{told.key.id}"})

    async def rotate(self, request: web.Request) -> web.Response:
        no_parameters(request)
        asked = await self._body(request, Rotate) if request.can_read_body else Rotate()
        return self._told(await self._desk.rotate(request.match_info["id"], asked), 200, {})

    async def change(self, request: web.Request) -> web.Response:
        no_parameters(request)
        key = await self._desk.change(request.match_info["id"], await self._body(request, Change))
        return said(ChangedKey(key=key, warnings=lets_in(self._ground.serving.plugins, key.allowance)))

    async def revoke(self, request: web.Request) -> web.Response:
        no_parameters(request)
        return said(await self._desk.revoke(request.match_info["id"]))

    async def show(self, request: web.Request) -> web.Response:
        no_parameters(request)
        return said(await self._desk.show(request.match_info["id"]))

    async def page(self, request: web.Request) -> web.Response:
        check_head(request)
        asked: dict[str, object] = {}
        for name, values in parameters(request).items():
            if len(values) > 1:
                raise BadRequest(f"{name}: stands there more than once", param=name)
            asked[name] = _number(values[0]) if name == "limit" else values[0]
        return said(await self._desk.page(read(asked, Filter)))

    def _told(self, told: Told, status: int, headers: Mapping[str, str]) -> web.Response:
        warnings = lets_in(self._ground.serving.plugins, told.key.allowance)
        return said(ToldKey(secret=told.secret, key=told.key, warnings=warnings), status, headers)

    async def _body(self, request: web.Request, wanted: type[T]) -> T:
        body = await read_json(request, self._bounds)
        try:
            asked = msgspec.json.decode(body, type=wanted)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise misread(error) from error
        check_duplicates(body)
        return asked


def _number(text: str) -> object:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
