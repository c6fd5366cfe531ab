"""An issuer of `jwt`: its settings, whether they can work, and who a token's claims say the caller is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field

from sidegate.contract import Allowance, Caller
from sidegate_plugins._jwt_allowance import read_allowance
from sidegate_plugins._jwt_token import TokenError

Name = Annotated[str, Meta(min_length=1, max_length=512)]
Path = Annotated[str, Meta(max_length=256)]
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448",
    "HS256", "HS384", "HS512",
]  # fmt: skip
"""What may sign, RFC 7518 and RFC 9864. `none` is not among them, so no config can list it."""

_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""RFC 7518, 3.2: a key at least as long as the digest."""
_LONGEST_NAME = 256
_MOST_TAGS = 64
_MOST_MODELS = 1000


class ClaimPaths(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which claims say what. A path leads inward: `realm_access.roles`, `groups.0`; a whole name comes first."""

    caller: Annotated[str, Meta(min_length=1, max_length=256, description="The caller's name.")] = "sub"
    team: Annotated[Path, Meta(description="Its team.")] = ""
    tags: Annotated[Path, Meta(description="Its tags: a list, or one.")] = ""
    end_user: Annotated[Path, Meta(description="Its end user.")] = ""
    names_end_users: Annotated[bool, Meta(description="Believe what its requests say about their end user.")] = False
    models: Annotated[Path, Meta(description="The only models it may see: a list; a name may end in `*`.")] = ""
    owner: Annotated[Path, Meta(description="Who answers for it, for records only.")] = ""
    limits: Annotated[
        Path, Meta(description="Its rate limits: a number of requests a minute, or limits as a key has them.")
    ] = ""
    concurrency: Annotated[Path, Meta(description="How many calls it may have at a time.")] = ""
    budgets: Annotated[Path, Meta(description="Its budgets: USD a month, or budgets as a key has them.")] = ""
    limits_optional: Annotated[
        bool, Meta(description="Let in tokens without these three claims, with no limits of their own.")
    ] = False


class Issuer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One issuer that is believed, and how far."""

    issuer: Annotated[Name, Meta(description="The claim `iss`, to the letter; with discovery also its URL.")]
    audience: Annotated[tuple[Name, ...], Meta(min_length=1, description="The claim `aud` has one of these.")]
    algorithms: Annotated[tuple[Algorithm, ...], Meta(min_length=1, description="What its tokens may be signed by.")]
    jwks_url: Annotated[str, Meta(description="Where its keys are; found by OpenID discovery if empty.")] = ""
    secret: Annotated[str, Meta(description="Of an issuer that signs by HMAC; takes the place of keys.")] = ""
    leeway: Annotated[float, Meta(ge=0, le=300, description="Seconds by which its clock may differ from this one.")] = (
        30
    )
    prefix: Annotated[
        Annotated[str, Meta(max_length=64)] | None,
        Meta(description="Before the names of its callers and teams; needed where there are several issuers."),
    ] = None
    claims: Annotated[ClaimPaths, Meta(description="Which claims say what.")] = ClaimPaths()
    required: Annotated[
        dict[Annotated[str, Meta(min_length=1, max_length=256)], str | int | bool],
        Meta(description="Claims, by path, that must have this value, or a list with it."),
    ] = field(default_factory=dict)

    def check(self) -> None:
        """Raises `ValueError` where the issuer's settings contradict each other, or nothing could be believed."""
        hmac = [name for name in self.algorithms if name in _SECRET_BYTES]
        if not self.secret:
            if hmac:
                raise ValueError(f"{', '.join(hmac)} needs a secret: with public keys anybody could sign")
            check_url(self.jwks_url or self.issuer, "jwks_url" if self.jwks_url else "issuer, without a jwks_url,")
            return
        if self.jwks_url or len(hmac) != len(self.algorithms):
            raise ValueError("an issuer with a secret has no jwks_url and signs by HS256, HS384 or HS512 only")
        least = max(_SECRET_BYTES[name] for name in hmac)
        if len(self.secret.encode()) < least:
            raise ValueError(f"the secret is shorter than {least} bytes")


def check_url(url: str, what: str, *, loopback: bool = True) -> None:
    """https, or http on this machine; no user, no fragment. Raises `ValueError`."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"{what} is no URL") from None
    safe = parts.scheme == "https" or (parts.scheme == "http" and loopback and is_loopback(url))
    if not host or not safe or parts.username is not None or parts.fragment or not url.isprintable() or " " in url:
        raise ValueError(f"{what} must be an https URL (http on loopback only), without a user and a fragment")


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine, by its address or as `localhost`."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Identity(Struct, frozen=True):
    """Who a token's bearer is."""

    caller: Caller
    end_user: str | None = None
    sees: Callable[[str], bool] | None = None
    """Which models it may see, where the token says so."""


def identify(issuer: Issuer, claims: Mapping[str, Any]) -> Identity:
    """What a token that is verified says. Raises `TokenError` where it says it badly, or not at all."""
    paths, prefix = issuer.claims, issuer.prefix or ""
    _check_required(issuer.required, claims)
    name = _name(find(claims, paths.caller), "caller", prefix)
    team = find(claims, paths.team) if paths.team else None
    end_user = find(claims, paths.end_user) if paths.end_user else None
    tags = find(claims, paths.tags) if paths.tags else None
    owner = find(claims, paths.owner) if paths.owner else None
    caller = Caller(
        name=name,
        # The same for every token of a caller, so that what goes by key outlives the token.
        key_id=sha256(f"{issuer.issuer}\0{name}".encode()).hexdigest()[:12],
        team=None if team is None else _name(team, "team", prefix),
        tags=tuple(_name(tag, "tags", "") for tag in _list(tags, "tags", _MOST_TAGS)),
        names_end_users=paths.names_end_users,
        owner=None if owner is None else _name(owner, "owner", ""),
        allowance=_allowance(paths, claims),
    )
    sees = None
    if paths.models:
        # A token that does not say which sees none: else leaving the claim out would be a way to see all.
        sees = _visible(_list(find(claims, paths.models), "models", _MOST_MODELS))
    return Identity(caller, None if end_user is None else _name(end_user, "end_user", ""), sees)


def _allowance(paths: ClaimPaths, claims: Mapping[str, Any]) -> Allowance | None:
    found = {}
    for name in ("limits", "concurrency", "budgets"):
        path: str = getattr(paths, name)
        found[name] = find(claims, path) if path else None
        if found[name] == []:
            # What issuers make of an attribute that nobody has set.
            found[name] = None
        if path and found[name] is None and not paths.limits_optional:
            # Else leaving the claim out would be a way to have no limit.
            raise TokenError("bad_claim", f"{name}: missing")
    return read_allowance(**found)


def find(found: Any, path: str) -> Any:
    """What a path leads to, `None` where it leads nowhere. The longest name counts: names may have dots themselves."""
    if isinstance(found, dict):
        if path in found:
            return found[path]
        cut = path.rfind(".")
        while cut > 0:
            if path[:cut] in found:
                return find(found[path[:cut]], path[cut + 1 :])
            cut = path.rfind(".", 0, cut)
        return None
    if isinstance(found, list):
        index, _, rest = path.partition(".")
        if index.isascii() and index.isdecimal() and len(index) < 5 and int(index) < len(found):
            return find(found[int(index)], rest) if rest else found[int(index)]
    return None


def _check_required(required: Mapping[str, str | int | bool], claims: Mapping[str, Any]) -> None:
    for path, wanted in required.items():
        found = find(claims, path)
        values = found if isinstance(found, list) else [found]
        # `True == 1`, and a claim that says the one does not say the other.
        if not any(type(value) is type(wanted) and value == wanted for value in values):
            raise TokenError("required_claim", path)


def _name(value: Any, what: str, prefix: str) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise TokenError("bad_claim", what)
    if len(prefix) + len(value) > _LONGEST_NAME:
        raise TokenError("bad_claim", what)
    return prefix + value


def _list(value: Any, what: str, most: int) -> list[Any]:
    values = [] if value is None else value if isinstance(value, list) else [value]
    if len(values) > most or not all(isinstance(item, str) for item in values):
        raise TokenError("bad_claim", what)
    return values


def _visible(patterns: list[str]) -> Callable[[str], bool]:
    exact = frozenset(pattern for pattern in patterns if not pattern.endswith("*"))
    beginnings = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    return lambda model: model in exact or model.startswith(beginnings)
