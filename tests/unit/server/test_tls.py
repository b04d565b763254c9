"""TLS contexts, by handshakes in memory."""

import ssl
from pathlib import Path

import pytest
from support.certificates import Authority, Identity

from taskrouter_exporter.server.tls import Pem, ReloadingContext, TlsSettings, plain_san, server_context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings(identity: Identity, **more: object) -> TlsSettings:
    pems = Pem("cert_file", identity.certificate), Pem("key_file", identity.key)
    return TlsSettings(*pems, **more)  # type: ignore[arg-type] # the test chooses them


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """The client's side after a handshake.

    Raises:
        ssl.SSLError: it failed.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    waiting = [theirs, ours]
    for _ in range(10):
        for side in tuple(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    return theirs


def test_a_client_can_connect(authority: Authority) -> None:
    server = server_context(settings(authority.issue("server")))
    assert shake_hands(server, authority.client()).version() == "TLSv1.3"


def test_versions_suites_and_the_curve_are_those_of_the_settings(authority: Authority) -> None:
    server = server_context(
        settings(
            authority.issue("server"),
            max_version=ssl.TLSVersion.TLSv1_2,
            ciphers=("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
            curve="secp384r1",
        )
    )
    connection = shake_hands(server, authority.client())
    assert connection.version() == "TLSv1.2"
    cipher = connection.cipher()
    assert cipher is not None
    assert cipher[0].endswith("AES256-GCM-SHA384")
    other_curve = authority.client()
    other_curve.set_ecdh_curve("prime256v1")
    with pytest.raises(ssl.SSLError):
        shake_hands(server, other_curve)


def test_a_client_below_the_minimum_version_is_refused(authority: Authority) -> None:
    server = server_context(settings(authority.issue("server"), min_version=ssl.TLSVersion.TLSv1_3))
    client = authority.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake_hands(server, client)


@pytest.mark.parametrize(
    ("identity", "served"),
    [
        ("prometheus.example", True),
        ("10.1.2.3", True),
        ("2001:db8::1", True),
        ("ops@example.org", True),
        ("other.example", False),
        ("10.1.2.4", False),
    ],
)
def test_a_client_s_certificate_needs_one_of_the_allowed_names(
    identity: str,
    served: bool,  # noqa: FBT001 -- a parameter
    authority: Authority,
) -> None:
    allowed = ("prometheus.example", "10.1.2.3", "2001:DB8:0::1", "ops@example.org")
    server = server_context(
        settings(
            authority.issue("server"),
            client_ca=Pem("client_ca_file", authority.file),
            client_verification=ssl.CERT_REQUIRED,
            client_sans=frozenset(map(plain_san, allowed)),
        )
    )
    client = authority.client(authority.issue("client", identity))
    if served:
        assert shake_hands(server, client).version()
    else:
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(server, client)


def test_a_client_certificate_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").issue("client", "prometheus.example")
    for verification in (ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL):
        server = server_context(
            settings(
                authority.issue("server"),
                client_ca=Pem("client_ca_file", authority.file),
                client_verification=verification,
            )
        )
        with pytest.raises(ssl.SSLError):
            shake_hands(server, authority.client(stranger))
        if verification == ssl.CERT_OPTIONAL:
            assert shake_hands(server, authority.client()).version()
        else:
            with pytest.raises(ssl.SSLError):
                shake_hands(server, authority.client())


def test_each_handshake_uses_the_current_context(authority: Authority) -> None:
    contexts = [server_context(settings(authority.issue("server")))]
    reloading = ReloadingContext.of(lambda: contexts[-1])
    before = shake_hands(reloading, authority.client()).getpeercert()
    contexts.append(server_context(settings(authority.issue("server"))))
    after = shake_hands(reloading, authority.client()).getpeercert()
    assert before
    assert after
    assert before["serialNumber"] != after["serialNumber"]


def test_a_file_of_authorities_may_contain_other_text(authority: Authority) -> None:
    text = "# Zertifikate für Prometheus\n" + authority.file.read_text(encoding="utf-8") + "\nübrig\n"
    server = server_context(
        settings(
            authority.issue("server"),
            client_ca=Pem("client_ca", text=text),
            client_verification=ssl.CERT_REQUIRED,
        )
    )
    assert shake_hands(server, authority.client(authority.issue("client", "a.example"))).version()


def test_a_key_is_not_in_the_repr() -> None:
    assert "hidden" not in repr(Pem("key", text="hidden"))
