"""TLS contexts for the server, made from settings and replaced when these change."""

import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from taskrouter_exporter.files import FileError, read_regular_file

_MAX_PEM_BYTES: Final = 4 * 1024 * 1024
_CERTIFICATE: Final = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_PRIVATE_KEY: Final = re.compile("-----BEGIN ([A-Z]+ )?PRIVATE KEY-----")


class TlsError(Exception):
    """Settings that cannot be used. The message contains nothing of a private key.

    Attributes:
        key: The invalid key of the configuration, `cert_file` for example.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class Pem:
    """Certificates or a private key in PEM form, in a file or written into the configuration.

    Attributes:
        key: Its key in the configuration, `cert_file` or `cert` for example.
    """

    key: str
    path: Path | None = None
    text: str = field(default="", repr=False)

    def read(self) -> str:
        """Return the current text.

        Raises:
            TlsError: the file cannot be read.
        """
        if self.path is None:
            return self.text
        try:
            return read_regular_file(self.path, _MAX_PEM_BYTES).decode("utf-8", "replace")
        except FileError as error:
            raise TlsError(self.key, f"{self.path} {error}") from None


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The settings of a TLS context.

    Attributes:
        client_ca: The authorities that may sign a client's certificate.
        client_sans: Subject alternative names of which a client's certificate must have one, as
            `plain_san` writes them. Empty: no restriction.
        ciphers: For TLS 1.2, in OpenSSL's names. Empty: Python's default. TLS 1.3 always has its own.
        curve: In OpenSSL's name. None: OpenSSL's default.
        server_preference: Whether the server's order of `ciphers` takes precedence over the client's.
    """

    certificate: Pem
    private_key: Pem
    client_ca: Pem | None = None
    client_verification: ssl.VerifyMode = ssl.CERT_NONE
    client_sans: frozenset[str] = frozenset()
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: tuple[str, ...] = ()
    curve: str | None = None
    server_preference: bool = True

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the context is built from."""
        pems = (self.certificate, self.private_key, self.client_ca)
        return tuple(pem.path for pem in pems if pem is not None and pem.path is not None)


class _ServerContext(ssl.SSLContext):
    """A context with the names that clients may have."""

    client_sans: frozenset[str] = frozenset()


class _ServerObject(ssl.SSLObject):
    """One connection. Its handshake fails if the client's certificate has none of the allowed names."""

    def do_handshake(self) -> None:
        super().do_handshake()
        allowed = self.context.client_sans if isinstance(self.context, _ServerContext) else frozenset()
        if not allowed:
            return
        names: Any = (self.getpeercert() or {}).get("subjectAltName", ())
        if not any(plain_san(name) in allowed for _, name in names):
            raise ssl.SSLCertVerificationError("the client's certificate has none of the allowed names")


class ReloadingContext(ssl.SSLContext):
    """Wraps every new connection in the current context.

    asyncio keeps one context for as long as a socket listens, and uses it only for `wrap_bio`, once per
    connection.
    """

    _current: Callable[[], ssl.SSLContext]

    @classmethod
    def of(cls, current: Callable[[], ssl.SSLContext]) -> "ReloadingContext":
        """Return a context that calls `current` for each connection. It must not raise."""
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context._current = current
        return context

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 -- as in ssl
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Wrap a connection in the current context, with the arguments of `ssl.SSLContext.wrap_bio`."""
        return self._current().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def plain_san(name: str) -> str:
    """Return a subject alternative name in its canonical form: IPv6 addresses have many."""
    try:
        return str(ipaddress.ip_address(name.strip("\n")))
    except ValueError:
        return name


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Build a context from the settings and the files that they name.

    Raises:
        TlsError: a file or a setting cannot be used.
    """
    context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _ServerObject
    context.client_sans = settings.client_sans
    context.minimum_version = settings.min_version
    context.maximum_version = settings.max_version
    if not settings.server_preference:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        if settings.ciphers:
            context.set_ciphers(":".join(settings.ciphers))
    except ssl.SSLError:
        raise TlsError("cipher_suites", "not supported by this version of OpenSSL") from None
    try:
        if settings.curve:
            context.set_ecdh_curve(settings.curve)
    except (ValueError, ssl.SSLError):
        raise TlsError("curve_preferences", "not supported by this version of OpenSSL") from None
    _load_identity(context, settings.certificate, settings.private_key)
    if settings.client_ca is not None:
        _load_client_ca(context, settings.client_ca)
    context.verify_mode = settings.client_verification
    return context


def _load_identity(context: ssl.SSLContext, certificate: Pem, private_key: Pem) -> None:
    if not _CERTIFICATE.search(certificate.read()):
        raise TlsError(certificate.key, "contains no certificate in PEM format")
    if not _PRIVATE_KEY.search(private_key.read()):
        raise TlsError(private_key.key, "contains no private key in PEM format")

    def refuse() -> str:  # without it OpenSSL would prompt for a password on the terminal
        raise TlsError(private_key.key, "not supported: an encrypted private key")

    try:
        with _as_file(certificate) as certificate_file, _as_file(private_key) as key_file:
            context.load_cert_chain(certificate_file, key_file, refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError(private_key.key, f"does not match {certificate.key}") from None
        raise TlsError(certificate.key, f"cannot be used with {private_key.key}: {_explain(error)}") from None
    except OSError as error:
        raise TlsError(certificate.key, f"cannot be read: {error.strerror}") from None


def _load_client_ca(context: ssl.SSLContext, client_ca: Pem) -> None:
    certificates = _CERTIFICATE.findall(client_ca.read())
    if not certificates:
        raise TlsError(client_ca.key, "contains no certificate in PEM format")
    try:
        context.load_verify_locations(cadata="\n".join(certificates))
    except (ssl.SSLError, ValueError):
        raise TlsError(client_ca.key, "contains an invalid certificate") from None


def _explain(error: ssl.SSLError) -> str:
    return (error.reason or "PEM lib").replace("_", " ").lower()


@contextmanager
def _as_file(pem: Pem) -> Iterator[str]:
    """Yield the path of a file with the PEM, since OpenSSL loads files only.

    A key that is written in the configuration is never written to a disk.
    """
    if pem.path is not None:
        yield str(pem.path)
        return
    if not hasattr(os, "memfd_create"):
        raise TlsError(pem.key, f"not supported on this system: write it to a file and use {pem.key}_file")
    descriptor = os.memfd_create(pem.key)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", closefd=False) as file:
            file.write(pem.text)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
