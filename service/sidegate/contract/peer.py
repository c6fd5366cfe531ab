"""Peer: who is at the other end of a connection, as far as a certificate has proved it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A client certificate that was verified: it leads to an authority of `listen.tls.client_ca`, and is in force."""

    subject: str
    """Its distinguished name as RFC 4514 writes it: `CN=web,OU=shop,O=Example`; may be empty."""
    common_name: str | None
    """The one CN of the subject; `None` where there is none, or more than one."""
    dns_names: tuple[str, ...] = ()
    """Its alternative names, in the certificate's order."""
    uris: tuple[str, ...] = ()
    """The same, such as `spiffe://example.org/ns/shop/sa/web`."""
    emails: tuple[str, ...] = ()
    issuer: str = ""
    """The distinguished name of who issued it."""
    serial: str = ""
    """Its number, by which the issuer knows it: hex, upper case."""
    fingerprint: str = ""
    """SHA-256 of the whole certificate: hex, lower case."""
