"""Who calls, by a JSON Web Token of an OpenID Connect issuer: your company's sign-in, a cloud's, a cluster's.

The token comes as `Authorization: Bearer TOKEN`, or where the SDKs put their key. Who brings none, or one that is not
right, gets 401, whatever is wrong with it; the log says what. Put it first but for `log`, in the place of `api_key`, or
before it with `pass_others`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from sidegate.contract import ANONYMOUS, ENFORCED_BY, Call, Handler, Host, Plugin, Reply, require_enforced
from sidegate.errors import Refusal
from sidegate_plugins._credential import EndUserHeader, header_values, named_end_user
from sidegate_plugins._jwt_allowance import needs
from sidegate_plugins._jwt_issuer import ClaimPaths, Identity, Issuer, identify
from sidegate_plugins._jwt_token import MAX_BYTES, Token, TokenError, check_claims, looks_like_token, read_token

if TYPE_CHECKING:
    from sidegate_plugins._jwk import Key
    from sidegate_plugins._jwks import IssuerKeys, KeySource

__all__ = ["ClaimPaths", "Issuer", "Jwt", "Settings"]

Header = Annotated[str, Meta(pattern=r"^[a-z0-9-]+$", max_length=64)]

_SHOWN = 200
"""Characters of what a token says that are logged."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    issuers: Annotated[tuple[Issuer, ...], Meta(min_length=1, description="The issuers that are believed.")]
    headers: Annotated[
        tuple[Header, ...],
        Meta(min_length=1, description="Where the token may be, lower-case: `authorization` after `Bearer`."),
    ] = ("authorization", "x-api-key", "x-goog-api-key", "api-key")
    pass_others: Annotated[
        bool,
        Meta(description="Let calls without a JWT pass, for the next plugin to judge: they are nobody's until then."),
    ] = False
    skip_named: Annotated[
        bool, Meta(description="Let calls pass whose caller an earlier plugin named; their tokens are not looked at.")
    ] = False
    on_issuer_down: Annotated[
        Literal["refuse_start", "wait"],
        Meta(description="At start: no start without each issuer's keys, or 503 for its callers until they are there."),
    ] = "refuse_start"
    jwks_ttl: Annotated[float, Meta(ge=10, le=86_400, description="Seconds after which keys are fetched again.")] = 300
    stale_for: Annotated[
        float, Meta(ge=0, le=604_800, description="Seconds that old keys are kept beyond, while fetching fails.")
    ] = 3600
    fetch_timeout: Annotated[float, Meta(gt=0, le=60, description="Seconds a fetch may take in all.")] = 5
    max_cached: Annotated[int, Meta(ge=1, le=10**6, description="Verified tokens that are remembered.")] = 10_000
    end_user_header: EndUserHeader = "x-end-user"


class Verified(Struct, frozen=True):
    """A token that was believed, known by its digest: who, until when (Unix seconds), and by which key."""

    identity: Identity
    expires: float
    keys: KeySource
    key: Key


class Jwt(Plugin[Settings]):
    """Sets `call.caller` and `call.end_user`, restricts the models where the token says which, or refuses."""

    deliveries: ClassVar[frozenset[str]] = frozenset({"buffered", "stream", "job", "socket"})
    names_callers = True

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        _check(settings.issuers)
        _check_enforced(settings.issuers, host.enforced)
        self._issuers = {issuer.issuer: issuer for issuer in settings.issuers}
        self._fetched: dict[str, IssuerKeys] = {}
        self._keys = {issuer.issuer: self._source(issuer) for issuer in settings.issuers}
        self._verified: OrderedDict[bytes, Verified] = OrderedDict()

    def _source(self, issuer: Issuer) -> KeySource:
        try:
            # Only where the plugin is used: the library and what it needs are an extra.
            from sidegate_plugins._jwks import IssuerKeys, SecretKey, Times
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            raise ValueError(f"{missing} is not installed: pip install 'sidegate[jwt]'") from error
        if issuer.secret:
            return SecretKey(issuer.secret)
        times = Times(self.settings.jwks_ttl, self.settings.stale_for, self.settings.fetch_timeout)
        keys = IssuerKeys(issuer.issuer, issuer.jwks_url, self.host, times, lambda why: self._told(issuer, why))
        self._fetched[issuer.issuer] = keys
        return keys

    def inherit(self, before: Jwt) -> None:
        """A reload while an issuer is down does not lose its keys."""
        for issuer, keys in self._fetched.items():
            if issuer in before._fetched:
                keys.go_on_from(before._fetched[issuer])

    async def start(self) -> None:
        """Fetch the keys of every issuer. Raises `ValueError` where one has none and `on_issuer_down` refuses that."""
        flights = [flight for keys in self._fetched.values() if (flight := keys.start()) is not None]
        if self.settings.on_issuer_down == "wait" or not flights:
            return
        try:
            await asyncio.wait(flights)
        except asyncio.CancelledError:
            await self.stop()
            raise
        for issuer, keys in self._fetched.items():
            if keys.problem:
                raise ValueError(f"the keys of {issuer} cannot be fetched: {keys.problem}")

    async def stop(self) -> None:
        for keys in self._fetched.values():
            await keys.stop()

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if self.settings.skip_named and call.caller is not ANONYMOUS:
            return await handler(call)
        credential = self._credential(call)
        if credential is None:
            return await handler(call)
        identity = self._remembered(credential)
        if identity is None:
            if self.settings.pass_others and not looks_like_token(credential):
                return await handler(call)
            identity = await self._judge(call, credential)
        require_enforced(identity.caller.allowance, self.host.enforced)
        call.caller = identity.caller
        call.end_user = identity.end_user
        if call.end_user is None and identity.caller.names_end_users:
            call.end_user = named_end_user(call, self.settings.end_user_header)
        if identity.sees is not None:
            call.restrict_models(identity.sees)
        return await handler(call)

    # --- the token of a request ---------------------------------------------------------------------------------------

    def _credential(self, call: Call) -> str | None:
        """The one credential the request brings; `None` where others are to judge it. Raises `Refusal` 401."""
        found = [text for name in self.settings.headers for text in _credentials(call.headers, name)]
        first = found[0] if found else ""
        if found and all(other == first for other in found) and first.isascii() and len(first) <= MAX_BYTES:
            return first
        if self.settings.pass_others and not any(looks_like_token(text) for text in found):
            return None
        if not found:
            message = "A token is needed: Authorization: Bearer TOKEN."
            raise Refusal(401, "missing_token", message, headers={"WWW-Authenticate": 'Bearer realm="sidegate"'})
        raise self._refusal(call, TokenError("several" if len(found) > 1 else "malformed"))

    def _remembered(self, credential: str) -> Identity | None:
        digest = sha256(credential.encode()).digest()
        verified = self._verified.get(digest)
        if verified is None:
            return None
        clock = self.host.clock
        if clock.monotonic() >= verified.keys.look_at:
            return None
        if clock.now().timestamp() >= verified.expires or not verified.keys.holds(verified.key):
            del self._verified[digest]
            return None
        self._verified.move_to_end(digest)
        return verified.identity

    def _remember(self, credential: str, verified: Verified) -> None:
        self._verified[sha256(credential.encode()).digest()] = verified
        if len(self._verified) > self.settings.max_cached:
            self._verified.popitem(last=False)

    # --- whether it is believed ---------------------------------------------------------------------------------------

    async def _judge(self, call: Call, credential: str) -> Identity:
        token: Token | None = None
        try:
            token = read_token(credential)
            verified = await self._verify(call, token)
        except TokenError as error:
            raise self._refusal(call, error, token) from None
        self._remember(credential, verified)
        return verified.identity

    async def _verify(self, call: Call, token: Token) -> Verified:
        issuer = self._issuers.get(token.issuer)
        if issuer is None:
            raise TokenError("unknown_issuer")
        if token.algorithm not in issuer.algorithms:
            raise TokenError("algorithm", token.algorithm[:_SHOWN])
        keys = self._keys[issuer.issuer]
        with call.waiting():
            if not await keys.ready():
                raise Refusal(503, "issuer_unavailable", "Tokens cannot be checked at the moment.", retry_after=5)
            key = _signer(token, keys)
            if key is None and not keys.knows(token.kid):
                await keys.seek()
                key = _signer(token, keys)
        if key is None:
            raise TokenError(_why_unsigned(token, keys))
        expires = check_claims(token, issuer.audience, issuer.leeway, self.host.clock.now().timestamp())
        return Verified(identify(issuer, token.claims), expires, keys, key)

    # --- what is said of it -------------------------------------------------------------------------------------------

    def _refusal(self, call: Call, error: TokenError, token: Token | None = None) -> Refusal:
        """The same for every reason: a client that guesses learns nothing. The log has it, without the token."""
        said = {"issuer": _shown(token.issuer), "kid": _shown(token.kid or "")} if token is not None else {}
        detail = _shown(error.detail)
        self.host.log.write("token_refused", {"call": call.id, "reason": error.reason, "detail": detail, **said})
        headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        return Refusal(401, "invalid_token", "The token is not valid.", headers=headers)

    def _told(self, issuer: Issuer, problem: str) -> None:
        fields = {"issuer": issuer.issuer, "problem": problem}
        self.host.log.write("issuer_unavailable" if problem else "issuer_available", fields)


def _check(issuers: tuple[Issuer, ...]) -> None:
    for index, issuer in enumerate(issuers):
        try:
            issuer.check()
        except ValueError as error:
            raise ValueError(f"issuers[{index}]: {error}") from None
    if len({issuer.issuer for issuer in issuers}) != len(issuers):
        raise ValueError("an issuer stands twice in issuers")
    if len(issuers) > 1 and any(issuer.prefix is None for issuer in issuers):
        raise ValueError("with several issuers each needs a prefix, or one could name the callers of another")


def _check_enforced(issuers: tuple[Issuer, ...], enforced: frozenset[str]) -> None:
    for index, issuer in enumerate(issuers):
        paths = issuer.claims
        for need in needs(limits=paths.limits, concurrency=paths.concurrency, budgets=paths.budgets):
            if need not in enforced:
                raise ValueError(f"issuers[{index}]: claims.{need} needs the plugin {ENFORCED_BY[need]} further in")


def _credentials(headers: Mapping[str, str], name: str) -> list[str]:
    values = header_values(headers, name)
    if name != "authorization":
        return [value.strip() for value in values]
    parted = [value.partition(" ") for value in values]
    return [rest.strip() if scheme.lower() == "bearer" else "" for scheme, _, rest in parted]


def _signer(token: Token, keys: KeySource) -> Key | None:
    """The key that signed the token."""
    for key in keys.candidates(token.kid, token.algorithm):
        if key.verifies(token.algorithm, token.signed, token.signature):
            return key
    return None


def _why_unsigned(token: Token, keys: KeySource) -> str:
    if keys.candidates(token.kid, token.algorithm):
        return "signature"
    return "key_of_another_kind" if keys.knows(token.kid) else "unknown_key"


def _shown(text: str) -> str:
    """Fit for a line of the log, whatever it holds."""
    return text[:_SHOWN].encode("ascii", "backslashreplace").decode()
