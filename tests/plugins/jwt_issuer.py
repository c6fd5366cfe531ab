"""An OpenID Connect issuer for tests: a server on a socket whose keys, answers and moods are the test's."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from aiohttp import web
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from multidict import CIMultiDict

from sidegate.contract import ANONYMOUS, Call
from sidegate.errors import Refusal
from sidegate.upstream.client import Client
from sidegate_plugins.jwt import Jwt, Settings
from tests.plugins.calls import EPOCH, HandClock, ListLog, a_call, a_host, answer

NOW = int(EPOCH.timestamp())
"""What a `HandClock` says at first, in Unix seconds."""


def rsa_key(kid: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid})


def ec_key(kid: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": kid})


def ed_key(kid: str) -> OKPKey:
    return OKPKey.generate_key("Ed25519", {"kid": kid})


def sign(key: Key, payload: bytes | dict[str, Any], algorithm: str, **header: Any) -> str:
    """A token, signed by hand so that it may be wrong in any way. A header of `None` is left out."""
    model = jws.JWSRegistry.algorithms[algorithm]
    head = {"alg": algorithm, "kid": key.kid, "typ": "JWT", **header}
    body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    signed = b".".join((spelt(msgspec.json.encode({k: v for k, v in head.items() if v is not None})), spelt(body)))
    return (signed + b"." + spelt(model.sign(signed, key))).decode()


def spelt(data: bytes) -> bytes:
    """base64url, as JWS has it."""
    return urlsafe_b64encode(data).rstrip(b"=")


class Issuer:
    """What it publishes, and who asked. Made by `issuer`."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[Key] = []
        self.document: dict[str, Any] | None = None
        """In the place of the OpenID configuration it would give."""
        self.body: bytes | None = None
        """In the place of its key set."""
        self.status = 200
        self.gate = asyncio.Event()
        """Nobody is answered while it is not set."""
        self.gate.set()
        self.discoveries = 0
        self.fetches = 0

    async def discover(self, request: web.Request) -> web.Response:
        self.discoveries += 1
        await self.gate.wait()
        found = self.document or {"issuer": self.url, "jwks_uri": self.url + "/keys", "other": [1]}
        return web.Response(body=msgspec.json.encode(found), status=self.status)

    async def publish(self, request: web.Request) -> web.Response:
        self.fetches += 1
        await self.gate.wait()
        body = self.body or msgspec.json.encode({"keys": [key.as_dict(private=False) for key in self.keys]})
        return web.Response(body=body, status=self.status)

    def claims(self, **more: Any) -> dict[str, Any]:
        """Good ones; `None` leaves a claim out."""
        good = {"iss": self.url, "aud": "sidegate", "sub": "ann", "exp": NOW + 600, "iat": NOW, **more}
        return {name: value for name, value in good.items() if value is not None}

    def token(self, key: Key | None = None, algorithm: str = "RS256", **claims: Any) -> str:
        return sign(key or self.keys[0], self.claims(**claims), algorithm)


@asynccontextmanager
async def issuer(*keys: Key) -> AsyncIterator[Issuer]:
    made = Issuer()
    made.keys = list(keys)
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", made.discover)
    app.router.add_get("/keys", made.publish)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        made.gate.set()
        await runner.cleanup()


class Lobby:
    """A `jwt` plugin with a hand-set clock, and calls that come to it."""

    def __init__(self, plugin: Jwt, clock: HandClock, log: ListLog) -> None:
        self.plugin = plugin
        self.clock = clock
        self._log = log

    async def call(self, token: str | None = None, **given: Any) -> Call:
        """A call that is let in. Raises what the plugin raises."""
        headers = given.pop("headers", None) or ({"Authorization": f"Bearer {token}"} if token is not None else {})
        call = a_call(self.clock, caller=ANONYMOUS, headers=CIMultiDict(headers), **given)
        await self.plugin(call, answer)
        return call

    async def refusal(self, token: str | None = None, **given: Any) -> str:
        """Why the log says a call was refused, after a look at what the client is told."""
        before = len(self.refusals)
        with pytest.raises(Refusal) as refused:
            await self.call(token, **given)
        error = refused.value
        assert (error.status, error.code, error.message) == (401, "invalid_token", "The token is not valid.")
        assert error.headers == {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        assert len(self.refusals) == before + 1
        return str(self.refusals[-1]["reason"])

    async def unavailable(self, token: str) -> Refusal:
        with pytest.raises(Refusal) as refused:
            await self.call(token)
        assert (refused.value.status, refused.value.code) == (503, "issuer_unavailable")
        return refused.value

    @property
    def refusals(self) -> list[dict[str, Any]]:
        return self.lines("token_refused")

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self._log.lines if name == event]


@asynccontextmanager
async def lobby(*issuers: Issuer | dict[str, Any], start: bool = True, **settings: Any) -> AsyncIterator[Lobby]:
    """A plugin for these issuers, with an HTTP client of its own."""
    clock, log, client = HandClock(), ListLog(), Client()
    enforced = frozenset({"limits", "concurrency", "budgets"})
    given = {"issuers": [each if isinstance(each, dict) else believed(each) for each in issuers], **settings}
    plugin = Jwt(msgspec.convert(given, Settings), replace(a_host(clock, log=log), http=client, enforced=enforced))
    await client.start()
    try:
        if start:
            await plugin.start()
        yield Lobby(plugin, clock, log)
    finally:
        await plugin.stop()
        await client.stop()


def believed(issuer: Issuer, **more: Any) -> dict[str, Any]:
    """The settings of an issuer."""
    return {"issuer": issuer.url, "audience": ["sidegate"], "algorithms": ["RS256", "ES256", "EdDSA"], **more}
