"""TLS of a listener: certificate, key and authorities become a context, or one line that says what is wrong."""

from __future__ import annotations

import ssl
from pathlib import Path

from sidegate.errors import ConfigError
from sidegate.settings import Tls

_VERIFY = {"off": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_LARGEST = 2**20


def server_context(tls: Tls, place: str) -> ssl.SSLContext:
    """TLS 1.2 and 1.3, with OpenSSL's own choice of ciphers. Raises `ConfigError` with the place below `place`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    _load_certificate(context, tls, place)
    if tls.client_ca:
        _load_authorities(context, tls.client_ca, f"{place}.client_ca")
        # An authority that another one has issued counts by itself.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = _VERIFY[tls.client_certificates]
    return context


def _load_certificate(context: ssl.SSLContext, tls: Tls, place: str) -> None:
    at_key = f"{place}.key" if tls.key else f"{place}.certificate"
    if b"-----BEGIN CERTIFICATE-----" not in _read(tls.certificate, f"{place}.certificate"):
        raise ConfigError(f"{place}.certificate", "the file holds no certificate in PEM")
    key = _read(tls.key or tls.certificate, at_key)
    if b"PRIVATE KEY-----" not in key:
        raise ConfigError(at_key, "the file holds no private key in PEM")

    def no_password() -> str:
        raise ConfigError(at_key, "the private key is encrypted: nobody is there to type its password")

    try:
        context.load_cert_chain(tls.certificate, tls.key or None, password=no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(at_key, "the private key is not that of the certificate") from error
        raise ConfigError(place, f"the certificate or its key cannot be used: {_reason(error)}") from error
    except OSError as error:
        raise ConfigError(place, f"the certificate or its key cannot be read: {error.strerror}") from error


def _load_authorities(context: ssl.SSLContext, file: str, place: str) -> None:
    text = _read(file, place)
    try:
        context.load_verify_locations(cadata=text.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(place, "the file holds no certificates in PEM that can be used") from error


def _read(file: str, place: str) -> bytes:
    try:
        with Path(file).open("rb") as opened:
            return opened.read(_LARGEST)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ConfigError(place, f"the file cannot be read: {reason}") from error


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "no reason given").lower().replace("_", " ")
