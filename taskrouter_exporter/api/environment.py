"""The network settings of the process's environment: certificate authorities and proxies."""

import base64
import os
import ssl
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy

from taskrouter_exporter.api.connection import Endpoint

Authorities = str | Literal[True]
"""A file or directory of certificates, or True for the store of the system, as requests' `verify`."""

_BUNDLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_STORES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXIES: Final = frozenset({"https_proxy", "all_proxy"})
_SOCKS: Final = ("socks:", "socks4:", "socks4a:", "socks5:", "socks5h:")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class NetworkSettingError(ValueError):
    """A variable of the environment that cannot be used. The message is one line without secrets."""


def network_problems(base_urls: Iterable[str], environ: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the network settings for some APIs, each a line without secrets."""
    checks: list[Callable[[], object]] = [partial(certificate_authorities, environ)]
    checks += [partial(environment_proxies, base_url) for base_url in base_urls]
    problems: dict[str, None] = {}
    for check in checks:
        try:
            check()
        except NetworkSettingError as error:
            problems[f"environment: {error}"] = None
    return list(problems)


def certificate_authorities(environ: Mapping[str, str]) -> Authorities:
    """Return the certificate authorities to trust: the environment's, else the system's, else certifi's.

    Raises:
        NetworkSettingError: a variable names a file or directory without certificates.
    """
    for name in (*_BUNDLES, *_STORES):
        if path := environ.get(name):
            _check_certificates(name, Path(path))
            return path if name in _BUNDLES else True
    return True if _has_system_store() else DEFAULT_CA_BUNDLE_PATH


def tls_context(authorities: Authorities) -> ssl.SSLContext:
    """Return the TLS settings of a client that trusts the authorities."""
    if authorities is True:
        context = ssl.create_default_context()
    elif Path(authorities).is_dir():
        context = ssl.create_default_context(capath=authorities)
    else:
        context = ssl.create_default_context(cafile=authorities)
    context.set_alpn_protocols(["http/1.1"])
    return context


def environment_proxies(base_url: str) -> Mapping[str, str]:
    """Return the proxies for an API as requests finds them in the environment, checked.

    None are used for `http://`: that is for loopback only, and a proxy would receive the credentials
    unencrypted.

    Raises:
        NetworkSettingError: the proxy for the API cannot be used.
    """
    proxies: Mapping[str, str] = get_environ_proxies(base_url) if base_url.startswith("https:") else {}
    proxy = select_proxy(base_url, dict(proxies))
    if proxy:
        try:
            proxy_endpoint(proxy)
        except (KeyError, ValueError):
            raise NetworkSettingError(f"{_variable_of(proxy)}: {_problem_of(proxy)}") from None
    return proxies


def proxy_endpoint(proxy: str) -> Endpoint:
    """Parse the URL of a proxy, which may have a user and a password in it.

    Raises:
        KeyError: the scheme is neither http nor https.
        ValueError: it is not a URL with nothing but scheme, user, password, host and port.
    """
    url = proxy if "://" in proxy else f"http://{proxy}"
    parts = urlsplit(url)
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("not the URL of a proxy")
    user = unquote(parts.username or "")
    login = f"{user}:{unquote(parts.password or '')}".encode()
    return endpoint(url, f"Basic {base64.b64encode(login).decode()}" if user else None)


def endpoint(url: str, authorization: str | None = None) -> Endpoint:
    """Return the host, port and scheme of a URL as an endpoint.

    Raises:
        KeyError: the scheme is neither http nor https.
        ValueError: the port is none.
    """
    parts = urlsplit(url)
    default_port = _DEFAULT_PORTS[parts.scheme]
    return Endpoint(parts.hostname or "", parts.port or default_port, parts.scheme == "https", authorization)


def _check_certificates(name: str, path: Path) -> None:
    if path.is_dir():
        if not any(path.iterdir()):
            raise NetworkSettingError(f"{name}: {path} is an empty directory")
        return
    if not path.exists():
        raise NetworkSettingError(f"{name}: {path}: no such file or directory")
    if not path.is_file():
        raise NetworkSettingError(f"{name}: {path} is not a regular file")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise NetworkSettingError(f"{name}: {path} contains no certificate in PEM form") from None
    except OSError as error:
        raise NetworkSettingError(f"{name}: {path} cannot be read: {error.strerror}") from None


def _has_system_store() -> bool:
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile) or bool(paths.capath and any(Path(paths.capath).iterdir()))


def _variable_of(proxy: str) -> str:
    """Return the name of the environment's variable that has a proxy's URL as its value."""
    names = (name for name, value in os.environ.items() if name.lower() in _PROXIES and value == proxy)
    return next(names, "HTTPS_PROXY")


def _problem_of(proxy: str) -> str:
    """Return what is wrong with a proxy's URL, which may contain a password and is not shown."""
    if proxy.lower().startswith(_SOCKS):
        return "SOCKS proxies are not supported (expected http://host:port or https://host:port)"
    return (
        "not the URL of a proxy (expected e.g. http://user:password@proxy.example:3128, with special "
        "characters of the password percent-encoded: # as %23)"
    )
