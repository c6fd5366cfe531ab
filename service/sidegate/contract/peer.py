"""Peer: who is at the other end of a connection, as far as a certificate or the kernel has proved it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Who opened a Unix socket, as the kernel noted it when the connection was made."""

    uid: int
    """The effective user. One of another user namespace that is nobody here is 65534."""
    gid: int
    """The effective group."""
    groups: tuple[int, ...] = ()
    """Its further groups, where the system tells them."""
    pid: int | None = None
    """For logs only: the process may be gone, and its number another's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who the other end of a connection has proved to be. One of the two is set."""

    certificate: Certificate | None = None
    """Over TLS: what it brought."""
    process: Process | None = None
    """Over a Unix socket: who runs it."""
