"""Certificates of a test authority, as files."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority and its certificates, in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = trustme.CA()
        self.file = directory / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str, *identities: str) -> Identity:
        """Write `name.pem` and `name.key`, over those that exist, for 127.0.0.1 or the identities given."""
        issued = self._authority.issue_cert(*(identities or ("127.0.0.1",)))
        identity = Identity(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        identity.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(identity.key))
        return identity

    def client(self, identity: Identity | None = None) -> ssl.SSLContext:
        """A client that trusts the authority, and shows an identity if it has one."""
        context = ssl.create_default_context(cafile=self.file)
        if identity:
            context.load_cert_chain(identity.certificate, identity.key)
        return context
