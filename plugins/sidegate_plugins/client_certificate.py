"""Who calls, by the certificate their TLS client brings: services of a mesh or a company's own authority (mTLS).

The listener checks the certificate (`listen.tls`); this plugin makes a caller of a name in it. Who brings none, or one
without such a name, gets 401; the log says why. Put it first but for `log`, in the place of `api_key`, or before it
with `pass_others`.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from sidegate.contract import ANONYMOUS, Call, Caller, Certificate, Handler, Host, Label, Plugin, Reply
from sidegate.errors import Refusal
from sidegate_plugins._callers import NamesEndUsers, Owner, Tags, Team, caller_of, can_be_a_name
from sidegate_plugins._credential import EndUserHeader, named_end_user

Pattern = Annotated[str, Meta(min_length=1, max_length=512, pattern=r"^[^*]*(\*[^*]+){0,3}\*?$")]

_SHOWN = 200
"""Characters of a certificate's subject that are logged."""


class Callers(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of the callers whose name in the certificate fits."""

    match: Annotated[
        Pattern, Meta(description="The name; `*` stands for anything but `/`, at the end for anything at all.")
    ]
    name: Annotated[Label | None, Meta(description="Call them all so; by their names if left out.")] = None
    team: Team = None
    tags: Tags = ()
    owner: Owner = None
    names_end_users: NamesEndUsers = False


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name_from: Annotated[
        Literal["common_name", "subject", "uri", "dns", "email"],
        Meta(description="Which name of the certificate: of its subject, or an alternative one."),
    ] = "common_name"
    callers: Annotated[
        tuple[Callers, ...], Meta(description="Who may call; the first that fits counts. Any name if empty.")
    ] = ()
    prefix: Annotated[str, Meta(max_length=64, description="Stands before names that come from certificates.")] = ""
    pass_others: Annotated[
        bool,
        Meta(description="Let calls without a certificate pass, for the next plugin to judge: nobody's until then."),
    ] = False
    skip_named: Annotated[
        bool, Meta(description="Let calls pass whose caller an earlier plugin named; certificates are not looked at.")
    ] = False
    end_user_header: EndUserHeader = "x-end-user"


class ClientCertificate(Plugin[Settings]):
    """Sets `call.caller` and `call.end_user`, or refuses."""

    deliveries: ClassVar[frozenset[str]] = frozenset({"buffered", "stream", "job", "socket"})
    names_callers = True

    def __init__(self, settings: Settings, host: Host) -> None:
        super().__init__(settings, host)
        self._rules = [(_compiled(rule.match), rule) for rule in settings.callers]

    async def __call__(self, call: Call, handler: Handler) -> Reply:
        if self.settings.skip_named and call.caller is not ANONYMOUS:
            return await handler(call)
        certificate = call.peer.certificate if call.peer is not None else None
        if certificate is None:
            if self.settings.pass_others:
                return await handler(call)
            raise Refusal(401, "missing_certificate", "A client certificate is needed.")
        call.caller = caller = self._caller(call, certificate)
        call.end_user = named_end_user(call, self.settings.end_user_header) if caller.names_end_users else None
        return await handler(call)

    def _caller(self, call: Call, certificate: Certificate) -> Caller:
        names = _names(certificate, self.settings.name_from)
        found = self._found(names)
        if found is None:
            raise self._refusal(call, certificate, "unknown_name" if names else "no_name")
        name, rule = found
        named = rule.name if rule is not None and rule.name is not None else self.settings.prefix + name
        if not can_be_a_name(named):
            raise self._refusal(call, certificate, "bad_name")
        return caller_of(named, _key_id(certificate, name), rule)

    def _found(self, names: tuple[str, ...]) -> tuple[str, Callers | None] | None:
        """The name that counts, and what is known of it. A certificate may have several: the list decides."""
        if not self._rules:
            return (names[0], None) if names else None
        return next(((name, rule) for match, rule in self._rules for name in names if match.fullmatch(name)), None)

    def _refusal(self, call: Call, certificate: Certificate, reason: str) -> Refusal:
        subject = certificate.subject[:_SHOWN].encode("ascii", "backslashreplace").decode()
        said = {"subject": subject, "serial": certificate.serial, "fingerprint": certificate.fingerprint}
        self.host.log.write("certificate_refused", {"call": call.id, "reason": reason, **said})
        return Refusal(401, "invalid_certificate", "The client certificate does not name a caller.")


def _names(certificate: Certificate, source: str) -> tuple[str, ...]:
    match source:
        case "uri":
            return certificate.uris
        case "dns":
            return certificate.dns_names
        case "email":
            return certificate.emails
        case "subject":
            return (certificate.subject,) if certificate.subject else ()
        case _:
            return (certificate.common_name,) if certificate.common_name else ()


def _key_id(certificate: Certificate, name: str) -> str:
    """The same for every certificate that an issuer gives to a name: what goes by key outlives a renewal."""
    return sha256(f"{certificate.issuer}\0{name}".encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _compiled(pattern: str) -> re.Pattern[str]:
    beginning, open_end = pattern.removesuffix("*"), pattern.endswith("*")
    text = "[^/]*".join(re.escape(part) for part in beginning.split("*"))
    return re.compile(text + (".*" if open_end else ""), re.DOTALL)
