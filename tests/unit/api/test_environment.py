import ssl
from pathlib import Path

import pytest
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from support.certificates import Authority

from taskrouter_exporter.api.environment import (
    NetworkSettingError,
    certificate_authorities,
    environment_proxies,
    proxy_endpoint,
    tls_context,
)

API = "https://taskrouter.example"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file or directory"),
        ("", "contains no certificate in PEM form"),
        ("not PEM", "contains no certificate in PEM form"),
    ],
)
def test_a_bundle_without_certificates_is_refused_with_the_name_of_its_variable(
    tmp_path: Path, name: str, content: str | None, problem: str
) -> None:
    file = tmp_path / "bundle.pem"
    if content is not None:
        file.write_text(content, encoding="ascii")
    with pytest.raises(NetworkSettingError) as caught:
        certificate_authorities({name: str(file)})
    assert str(caught.value).startswith(f"{name}: {file}")
    assert problem in str(caught.value)


def test_an_empty_directory_of_certificates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NetworkSettingError, match=r"^SSL_CERT_DIR: .* is an empty directory$"):
        certificate_authorities({"SSL_CERT_DIR": str(tmp_path)})


def test_the_bundle_of_the_environment_comes_before_the_systems_store(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    found = certificate_authorities({"REQUESTS_CA_BUNDLE": str(authority.file)})
    assert found == str(authority.file)
    assert len(tls_context(found).get_ca_certs()) == 1


def test_a_certificate_in_ssl_cert_file_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    found = certificate_authorities({"SSL_CERT_FILE": str(authority.file)})
    own = ssl.PEM_cert_to_DER_cert(authority.file.read_text(encoding="ascii"))
    assert own in tls_context(found).get_ca_certs(binary_form=True)


def test_without_a_store_of_the_system_certifis_bundle_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = ssl.DefaultVerifyPaths("", str(tmp_path), "F", "f", "D", "d")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nothing)
    assert certificate_authorities({}) == DEFAULT_CA_BUNDLE_PATH


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("proxy", "problem"),
    [
        ("socks5h://user:p4ss@127.0.0.1:1", "SOCKS proxies are not supported"),
        ("http://user:p4ss#w@proxy", "# as %23"),
        ("http://127.0.0.1:p4ss", "not the URL of a proxy"),
        ("http://[::1", "not the URL of a proxy"),
        ("ftp://user:p4ss@proxy", "not the URL of a proxy"),
        ("http://user:p4ss@proxy/path", "not the URL of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_without_its_text(
    monkeypatch: pytest.MonkeyPatch, name: str, proxy: str, problem: str
) -> None:
    monkeypatch.setenv(name, proxy)
    with pytest.raises(NetworkSettingError, match=problem) as caught:
        environment_proxies(API)
    assert str(caught.value).startswith(f"{name}: ")
    assert "p4ss" not in str(caught.value)


def test_a_proxy_is_found_and_its_password_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    assert environment_proxies(API)["https"] == "proxy.example:3128"
    endpoint = proxy_endpoint("https://user:p%23w@proxy.example")
    assert (endpoint.host, endpoint.port, endpoint.tls) == ("proxy.example", 443, True)
    assert endpoint.authorization == "Basic dXNlcjpwI3c="
    assert "dXNl" not in repr(endpoint)


def test_what_goes_to_loopback_unencrypted_has_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example")
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example")
    assert environment_proxies("http://127.0.0.1:1") == {}
