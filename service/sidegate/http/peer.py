"""The peer of a TLS connection: what its verified certificate says, read once a connection."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from sidegate.contract.peer import Certificate, Peer

_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
"""RFC 4514, section 3; other names stay as OpenSSL spells them."""
_SPECIAL = re.compile(r'[,+"\\<>;=]|^[ #]| $')

Names = tuple[tuple[tuple[str, str], ...], ...]
"""A distinguished name as `ssl` gives it: relative names from the root inward, each of one or more values."""


def read_peer(connection: ssl.SSLObject) -> Peer | None:
    """Who the other end is; `None` where it brought no certificate. One that is not right ended the handshake."""
    certificate: Mapping[str, Any] | None = connection.getpeercert()
    encoded = connection.getpeercert(binary_form=True)
    if not certificate or encoded is None:
        return None
    alternative: tuple[tuple[str, str], ...] = certificate.get("subjectAltName", ())
    subject: Names = certificate.get("subject", ())
    common = [value for kind, value in _values(subject) if kind == "commonName"]
    said = Certificate(
        subject=distinguished(subject),
        common_name=common[0] if len(common) == 1 else None,
        dns_names=tuple(value for kind, value in alternative if kind == "DNS"),
        uris=tuple(value for kind, value in alternative if kind == "URI"),
        emails=tuple(value for kind, value in alternative if kind == "email"),
        issuer=distinguished(certificate.get("issuer", ())),
        serial=str(certificate.get("serialNumber", "")),
        fingerprint=sha256(encoded).hexdigest(),
    )
    return Peer(certificate=said)


def distinguished(name: Names) -> str:
    """A distinguished name as RFC 4514 writes it: the innermost first."""
    return ",".join(
        "+".join(f"{_SHORT.get(kind, kind)}={_escaped(value)}" for kind, value in relative) for relative in name[::-1]
    )


def _values(name: Names) -> Iterable[tuple[str, str]]:
    return (pair for relative in name for pair in relative)


def _escaped(value: str) -> str:
    return _SPECIAL.sub(lambda found: f"\\{found[0]}", value).replace("\0", "\\00")
