"""The web configuration file, in the format of exporter-toolkit: TLS, headers, passwords, rate limit.

Source: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.
docs/web-configuration.md lists what is not supported here.
"""

import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

import bcrypt
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_core import PydanticCustomError

from taskrouter_exporter.config.document import Document, KeyPath, Problem, YamlError, read_yaml
from taskrouter_exporter.config.errors import ConfigError, Schema, check_schema, problem_lines, read_text
from taskrouter_exporter.config.fields import Allowed, FileName, Name, NotNull
from taskrouter_exporter.durations import parse_duration
from taskrouter_exporter.server.tls import Pem, TlsError, TlsSettings, plain_san, server_context

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_BCRYPT_COST: Final = 18
"""A check at this cost takes many seconds; each step doubles it."""

_SECURE_SUITES: Final = {
    f"TLS_ECDHE_{kind}_WITH_{go}": f"ECDHE-{kind}-{openssl}"
    for kind in ("ECDSA", "RSA")
    for go, openssl in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
    )
}
"""Go's `tls.CipherSuites()` for TLS 1.2, and their names in OpenSSL."""
_TLS13_SUITES: Final = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
_CURVES: Final = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED: Final = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
_HEADER_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
"""The headers that exporter-toolkit allows, and the values that it allows if not every one."""
_A_HASH: Final = "a bcrypt hash, as `htpasswd -nBC 10 ''` writes it"
_BCRYPT_HASH: Final = re.compile(
    r"\$2[abxy]\$(?P<cost>[0-9]{2})\$(?P<salt>[./A-Za-z0-9]{22})[./A-Za-z0-9]{31}"
)


@dataclass(frozen=True, slots=True)
class RequestLimit:
    """A token bucket: `burst` requests at once, and one more each `interval` seconds."""

    interval: float
    burst: int


@dataclass(frozen=True)
class WebConfig:
    """A valid web configuration.

    Attributes:
        context: None for plain HTTP.
        users: bcrypt hashes by user name. Empty: no authentication.
        headers: Added to every response.
        files: The files that it names.
    """

    context: ssl.SSLContext | None = None
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    headers: tuple[tuple[str, str], ...] = ()
    rate_limit: RequestLimit | None = None
    files: tuple[Path, ...] = ()


class WebConfigError(ConfigError):
    """A web configuration that names certificates or keys that cannot be used.

    Attributes:
        files: The files that it names.
    """

    def __init__(self, problems: Iterable[str], files: tuple[Path, ...]) -> None:
        super().__init__(problems)
        self.files = files


def load_web_config(path: Path) -> WebConfig:
    """Read and validate a web configuration file, and the certificates that it names.

    Raises:
        ConfigError: the file cannot be read or is invalid.
    """
    return parse_web_config(read_text(path, MAX_FILE_BYTES), str(path), path.parent)


def parse_web_config(text: str, source: str, directory: Path) -> WebConfig:
    """Validate the text of a web configuration, and the certificates that it names.

    Args:
        text: YAML.
        source: The file's name, for error messages.
        directory: The directory that paths are relative to.

    Raises:
        ConfigError: with every problem of the text.
    """
    try:
        document = read_yaml(text, _is_text)
    except YamlError as error:
        raise ConfigError(problem_lines(source, [error.problem], _SCHEMA)) from None
    problems = [*document.problems, *check_schema(document, _SCHEMA)]
    if not problems:
        keys = _FileModel.model_validate(document.data)
        problems = list(_problems_between_keys(keys, document))
    if not problems:
        settings = _tls_settings(keys.tls_server_config, directory)
        try:
            return _web_config(keys, settings)
        except TlsError as error:
            problems = [document.problem(("tls_server_config", error.key), str(error))]
            files = settings.files if settings else ()
            raise WebConfigError(problem_lines(source, problems, _SCHEMA), files) from None
    raise ConfigError(problem_lines(source, problems, _SCHEMA))


def _is_text(path: KeyPath) -> bool:
    """Return whether a value belongs to one of the mappings that are `map[string]…` to the toolkit."""
    return path[:-1] in {("basic_auth_users",), ("http_server_config", "headers")}


def _sentence(message: str) -> PydanticCustomError:
    return PydanticCustomError("sentence", "{message}", {"message": message})


def _not_allowed(what: str) -> PydanticCustomError:
    return PydanticCustomError("allowed", "{what}", {"what": what})


def _client_auth(value: object) -> ssl.VerifyMode:
    if value in _UNVERIFIED:
        message = f"not supported: {value} accepts certificates that no authority signed; use "
        raise _sentence(message + "RequireAndVerifyClientCert")
    if not isinstance(value, str) or value not in _CLIENT_AUTH:
        raise _not_allowed("NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert")
    return _CLIENT_AUTH[value]


def _version(value: object) -> ssl.TLSVersion:
    if value in ("TLS10", "TLS11"):
        raise _sentence(f"not supported: {value} is insecure and refused by OpenSSL; use TLS12 or TLS13")
    if not isinstance(value, str) or value not in _VERSIONS:
        raise _not_allowed("TLS12 or TLS13")
    return _VERSIONS[value]


def _suite(name: str) -> str:
    if name not in _SECURE_SUITES and name not in _TLS13_SUITES:
        raise _not_allowed(f"one of {', '.join([*_SECURE_SUITES, *sorted(_TLS13_SUITES)])}")
    return name


def _curves(names: list[str]) -> list[str]:
    if len(names) > 1:
        raise _sentence(
            "not supported: more than one curve; keep one, or remove the key for OpenSSL's default"
        )
    return names


def _curve(name: str) -> str:
    if name not in _CURVES:
        raise _not_allowed(f"one of {', '.join(_CURVES)}")
    return _CURVES[name]


def _header(name: str) -> str:
    if name not in _HEADER_VALUES:
        raise _not_allowed(f"one of {', '.join(_HEADER_VALUES)}")
    return name


def _header_value(text: str) -> str:
    text = text.strip()  # as Go does: a block ends with a newline
    if not re.fullmatch("[ -~]*", text):
        raise ValueError
    return text


def _user_name(text: str) -> str:
    if ":" in text:
        raise ValueError
    return text


def _bcrypt_hash(value: SecretStr) -> SecretStr:
    match = _BCRYPT_HASH.fullmatch(value.get_secret_value())
    if match is None or not 4 <= int(match["cost"]) <= 31:  # noqa: PLR2004 -- what bcrypt allows
        raise _not_allowed(_A_HASH)
    if int(match["cost"]) > MAX_BCRYPT_COST:
        raise _sentence(
            f"not supported: a cost above {MAX_BCRYPT_COST}, with which a scrape would exceed its timeout"
        )
    try:
        bcrypt.hashpw(b"", f"$2b$04${match['salt']}".encode())
    except ValueError:  # not every 22 characters are a salt
        raise _not_allowed(_A_HASH) from None
    return value


def _interval(value: object) -> float:
    try:
        duration = parse_duration("0" if value == 0 and not isinstance(value, bool) else str(value))
    except ValueError:
        raise _not_allowed("a duration (expected e.g. 1s, 500ms, or 0 for no limit)") from None
    return duration.total_seconds()


_Pem = Annotated[SecretStr, Allowed("a text in PEM form")]
_HeaderName = Annotated[str, Allowed("the name of a header"), AfterValidator(_header)]
_HeaderValue = Annotated[
    str, Field(max_length=4096), AfterValidator(_header_value), Allowed("printable ASCII", any_string=True)
]
_UserName = Annotated[
    Name, AfterValidator(_user_name), Allowed("a user name of 1 to 200 characters without :", any_string=True)
]
_BcryptHash = Annotated[SecretStr, Allowed(_A_HASH), AfterValidator(_bcrypt_hash)]


class _StrictModel(BaseModel):
    """A mapping with exactly these keys. null and "" count as missing, as in Go."""

    # defer_build: once with the model of the file, not each model by itself at every start.
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, defer_build=True
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_blank(cls, data: Any) -> Any:  # noqa: ANN401 -- any YAML
        if not isinstance(data, dict):
            return data
        return {
            key: value
            for key, value in data.items()
            if value not in ("", None) or key not in cls.model_fields
        }


class _TlsModel(_StrictModel):
    cert_file: Annotated[FileName | None, NotNull()] = None
    key_file: Annotated[FileName | None, NotNull()] = None
    cert: Annotated[_Pem | None, NotNull()] = None
    key: Annotated[_Pem | None, NotNull()] = None
    client_auth_type: Annotated[ssl.VerifyMode, BeforeValidator(_client_auth)] = ssl.CERT_NONE
    client_ca_file: Annotated[FileName | None, NotNull()] = None
    client_ca: Annotated[_Pem | None, NotNull()] = None
    client_allowed_sans: Annotated[list[Name], Field(min_length=1)] | None = None
    min_version: Annotated[ssl.TLSVersion, BeforeValidator(_version)] = ssl.TLSVersion.TLSv1_2
    max_version: Annotated[ssl.TLSVersion, BeforeValidator(_version)] = ssl.TLSVersion.TLSv1_3
    cipher_suites: list[Annotated[str, Allowed("the name of a cipher suite"), AfterValidator(_suite)]] = (
        Field(default_factory=list)
    )
    prefer_server_cipher_suites: Annotated[bool, Allowed("true or false")] = True
    curve_preferences: Annotated[
        list[Annotated[str, Allowed("the name of a curve"), AfterValidator(_curve)]], AfterValidator(_curves)
    ] = Field(default_factory=list)


class _HttpModel(_StrictModel):
    http2: Annotated[bool, Allowed("true or false")] = True
    headers: dict[_HeaderName, _HeaderValue] = Field(default_factory=dict)


class _RequestLimitModel(_StrictModel):
    interval: Annotated[float, BeforeValidator(_interval)] = 0.0
    burst: Annotated[int, Field(ge=0, le=1_000_000), Allowed("a whole number from 0 to 1000000")] = 0


class _FileModel(_StrictModel):
    tls_server_config: _TlsModel = Field(default_factory=_TlsModel)
    http_server_config: _HttpModel = Field(default_factory=_HttpModel)
    basic_auth_users: dict[_UserName, _BcryptHash] = Field(default_factory=dict)
    rate_limit: _RequestLimitModel = Field(default_factory=_RequestLimitModel)


def _keys_of(path: KeyPath) -> type[BaseModel]:
    match path:
        case ("tls_server_config", *_):
            return _TlsModel
        case ("http_server_config", *_):
            return _HttpModel
        case ("rate_limit", *_):
            return _RequestLimitModel
        case _:
            return _FileModel


def _quotes(path: KeyPath) -> bool:
    """Return whether an error may quote the value: not if it is a hash or a key, nor a whole section."""
    return len(path) > 1 and path[0] != "basic_auth_users" and path[1] not in ("key", "cert", "client_ca")


def _redact(path: KeyPath) -> KeyPath:
    """Return the path up to the first step that may be a secret.

    A hash in the place of a user name, or a private key in braces, is a key in YAML.
    """
    path = tuple(takewhile(lambda step: re.fullmatch(r"[\w.@-]{1,40}", str(step)), path))
    if path[:1] in {("basic_auth_users",), ("tls_server_config",)} and not _is_list(path):
        return path[:2]
    return path


def _is_list(path: KeyPath) -> bool:
    return len(path) > 2 and isinstance(path[2], int)  # noqa: PLR2004 -- section, key, index


_SCHEMA: Final = Schema(_FileModel, _keys_of, _quotes, _redact)


def _problems_between_keys(keys: _FileModel, document: Document) -> Iterator[Problem]:
    if document.data.get("basic_auth_users", {}) in (None, ""):  # every user may be commented out
        yield document.problem(
            ("basic_auth_users",),
            "has no users, so everyone would have access; add a user, or write {} for no authentication",
        )
    if keys.tls_server_config.model_fields_set:
        for key, message in _tls_problems(keys.tls_server_config):
            yield document.problem(("tls_server_config", key) if key else ("tls_server_config",), message)
    for name, value in keys.http_server_config.headers.items():
        allowed = _HEADER_VALUES[name]
        if value and allowed and value not in allowed:
            path = ("http_server_config", "headers", name)
            yield document.problem(path, f"{value!r} is not {' or '.join(allowed)}")
    if keys.rate_limit.interval and not keys.rate_limit.burst:
        yield document.problem(
            ("rate_limit",), "a burst of 0 would refuse every request; set burst to 1 or more"
        )


def _tls_problems(keys: _TlsModel) -> Iterator[tuple[str, str]]:
    """Yield the keys that contradict each other, with the problem."""
    for name in ("cert", "key", "client_ca"):
        inline, file = getattr(keys, name), getattr(keys, f"{name}_file")
        if inline is not None and file is not None:
            yield name, f"{name} and {name}_file are mutually exclusive"
        elif inline is None and file is None and name != "client_ca":
            yield "", f"missing, set {name} or {name}_file"
    has_ca = keys.client_ca is not None or keys.client_ca_file is not None
    if has_ca and keys.client_auth_type == ssl.CERT_NONE:
        key = "client_ca" if keys.client_ca is not None else "client_ca_file"
        yield key, "has no effect without client_auth_type: RequireAndVerifyClientCert"
    if not has_ca and keys.client_auth_type != ssl.CERT_NONE:
        yield "client_auth_type", "needs client_ca_file or client_ca, the authorities that sign certificates"
    if keys.client_allowed_sans and keys.client_auth_type != ssl.CERT_REQUIRED:
        yield "client_allowed_sans", "needs client_auth_type: RequireAndVerifyClientCert"
    if keys.min_version > keys.max_version:
        yield "min_version", "is above max_version"
    if (
        keys.cipher_suites
        and keys.max_version == ssl.TLSVersion.TLSv1_2
        and not _SECURE_SUITES.keys() & set(keys.cipher_suites)
    ):
        yield "cipher_suites", "has none for TLS 1.2, the max_version"


def _web_config(keys: _FileModel, settings: TlsSettings | None) -> WebConfig:
    limit = keys.rate_limit
    return WebConfig(
        context=server_context(settings) if settings else None,
        users=MappingProxyType(
            {name: value.get_secret_value().encode() for name, value in keys.basic_auth_users.items()}
        ),
        headers=tuple((name, value) for name, value in keys.http_server_config.headers.items() if value),
        rate_limit=RequestLimit(limit.interval, limit.burst) if limit.interval else None,
        files=settings.files if settings else (),
    )


def _tls_settings(keys: _TlsModel, directory: Path) -> TlsSettings | None:
    def pem(name: str) -> Pem | None:
        inline, file = getattr(keys, name), getattr(keys, f"{name}_file")
        if file is not None:
            return Pem(f"{name}_file", path=directory / file)
        return None if inline is None else Pem(name, text=inline.get_secret_value())

    certificate, private_key = pem("cert"), pem("key")
    if certificate is None or private_key is None:
        return None
    ciphers = tuple(_SECURE_SUITES[name] for name in keys.cipher_suites if name in _SECURE_SUITES)
    only_tls13 = keys.cipher_suites and not ciphers
    return TlsSettings(
        certificate=certificate,
        private_key=private_key,
        client_ca=pem("client_ca"),
        client_verification=keys.client_auth_type,
        client_sans=frozenset(map(plain_san, keys.client_allowed_sans or ())),
        min_version=ssl.TLSVersion.TLSv1_3 if only_tls13 else keys.min_version,
        max_version=keys.max_version,
        ciphers=ciphers,
        curve=next(iter(keys.curve_preferences), None),
        server_preference=keys.prefer_server_cipher_suites,
    )
