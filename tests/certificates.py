"""Certificates for tests: an authority, a server's, and clients' that say what the test wants."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "C": NameOID.COUNTRY_NAME,
}

ROOT_USAGE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


class Authority:
    """Issues into a folder. `files` are what a listener's `tls` needs."""

    def __init__(self, folder: Path, ca: trustme.CA | None = None) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._ca = ca or trustme.CA()
        self._count = 0
        self.certificate = self._write("ca.pem", self._ca.cert_pem.bytes())
        server = self._ca.issue_cert("localhost", "127.0.0.1")
        self.server = self._write("server.pem", b"".join(blob.bytes() for blob in server.cert_chain_pems))
        self.server_key = self._write("server.key", server.private_key_pem.bytes())

    def below(self) -> Authority:
        """Another one, which this one has issued."""
        return Authority(self._folder / "below", self._ca.create_child_ca())

    def tls(self, client_certificates: str = "off") -> dict[str, str]:
        """The settings of a listener."""
        files = {"certificate": str(self.server), "key": str(self.server_key)}
        if client_certificates == "off":
            return files
        return {**files, "client_ca": str(self.certificate), "client_certificates": client_certificates}

    def context(self, client: Path | None = None) -> ssl.SSLContext:
        """A client's, which trusts this authority, and has this certificate."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        if client is not None:
            context.load_cert_chain(client)
        return context

    def client(
        self,
        *names: tuple[str, str],
        uris: Iterable[str] = (),
        dns: Iterable[str] = (),
        emails: Iterable[str] = (),
        days: int = 1,
        usage: x509.ExtendedKeyUsage = ROOT_USAGE,
    ) -> Path:
        """A file of certificate and key. `names` are of the subject, from the root inward: `("O", "Example")`."""
        key = ec.generate_private_key(ec.SECP256R1())
        authority = x509.load_pem_x509_certificate(self._ca.cert_pem.bytes())
        signer = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        ends = datetime.now(UTC) + timedelta(days=days)
        builder = x509.CertificateBuilder(
            issuer_name=authority.subject,
            subject_name=x509.Name([x509.NameAttribute(NAMES[kind], value) for kind, value in names]),
            public_key=key.public_key(),
            serial_number=0xABCDEF + self._count,
            not_valid_before=ends - timedelta(days=2),
            not_valid_after=ends,
        ).add_extension(usage, critical=False)
        alternative = [
            *(x509.UniformResourceIdentifier(uri) for uri in uris),
            *(x509.DNSName(name) for name in dns),
            *(x509.RFC822Name(email) for email in emails),
        ]
        if alternative:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=not names)
        made = builder.sign(signer, hashes.SHA256())
        self._count += 1
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._write(f"client-{self._count}.pem", made.public_bytes(serialization.Encoding.PEM) + private)

    def _write(self, name: str, data: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(data)
        return path
