"""When a certificate ends: `notAfter`, by RFC 5280, section 4.1, out of its DER. `ssl` reads it of a peer's only."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


def expires(pem: str) -> float:
    """Of the first certificate in `pem`, in seconds of the epoch. Raises `ValueError`."""
    _, begin, rest = pem.partition(_BEGIN)
    body, end, _ = rest.partition(_END)
    if not end:
        raise ValueError("no certificate in PEM")
    data = ssl.PEM_cert_to_DER_cert(begin + body + end)
    at = _open(data, _open(data, 0))
    if _element(data, at)[0] == _VERSION:
        at = _skip(data, at)
    for _ in ("serial number", "signature", "issuer"):
        at = _skip(data, at)
    at = _open(data, at)
    return _time(data, _skip(data, at))


def _time(data: bytes, at: int) -> float:
    """Both kinds are in GMT, to the second; the short one means 1950 to 2049."""
    tag, start, end = _element(data, at)
    text = data[start:end].decode("ascii")
    if tag == _UTC_TIME:
        text = ("20" if text < "50" else "19") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time where one belongs")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _open(data: bytes, at: int) -> int:
    """Where the contents of a sequence begin."""
    tag, start, _ = _element(data, at)
    if tag != _SEQUENCE:
        raise ValueError("not the shape of a certificate")
    return start


def _skip(data: bytes, at: int) -> int:
    return _element(data, at)[2]


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, and where its contents begin and end."""
    if at + 2 > len(data):
        raise ValueError("a certificate that ends too early")
    tag, length, start = data[at], data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(data[start : start + count]), start + count
    if start + length > len(data):
        raise ValueError("a certificate that ends too early")
    return tag, start, start + length
