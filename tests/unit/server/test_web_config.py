"""The web configuration file: what of the exporter-toolkit's format is accepted, and what is refused."""

import ssl
import subprocess
from pathlib import Path

import bcrypt
import pytest
from support.certificates import Authority

from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.server.web_config import RequestLimit, WebConfig, load_web_config, parse_web_config

HASH = bcrypt.hashpw(b"secret", b"$2b$04$abcdefghijklmnopqrstuu").decode()
TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue("server")
    return authority


@pytest.fixture
def directory(authority: Authority, tmp_path: Path) -> Path:
    assert authority.file.is_file()
    return tmp_path


def problems(text: str, directory: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_web_config(text, "web.yml", directory)
    return list(caught.value.problems)


def test_a_complete_file_of_exporter_toolkit_is_valid(directory: Path) -> None:
    config = parse_web_config(
        f"""
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  client_allowed_sans: [prometheus.example, "::1"]
  min_version: TLS12
  max_version: TLS13
  cipher_suites:
  - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
  - TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
  - TLS_AES_128_GCM_SHA256
  prefer_server_cipher_suites: true
  curve_preferences: [X25519]
http_server_config:
  http2: true
  headers:
    Content-Security-Policy: default-src 'none'
    X-Frame-Options: deny
    X-Content-Type-Options: nosniff
    X-XSS-Protection: ""
    Strict-Transport-Security: max-age=31536000
basic_auth_users:
  alice: {HASH}
  bob: {HASH.replace("$2b$", "$2y$")}
rate_limit:
  interval: 500ms
  burst: 10
""",
        "web.yml",
        directory,
    )
    assert config.context is not None
    assert config.context.verify_mode == ssl.CERT_REQUIRED
    suites = [each["name"] for each in config.context.get_ciphers() if each["protocol"] == "TLSv1.2"]
    assert suites == ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"]
    assert dict(config.headers) == {
        "Content-Security-Policy": "default-src 'none'",
        "X-Frame-Options": "deny",
        "X-Content-Type-Options": "nosniff",
        "Strict-Transport-Security": "max-age=31536000",
    }
    assert config.users["alice"] == HASH.encode()
    assert config.rate_limit == RequestLimit(0.5, 10)
    assert config.files == (directory / "server.pem", directory / "server.key", directory / "ca.pem")


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "tls_server_config:\nhttp_server_config:\nbasic_auth_users: {}\nrate_limit:\n",
        "tls_server_config: {}\n",
        "tls_server_config: {cert_file: '', client_ca_file: null}",
        "rate_limit: {interval: 0}",
    ],
)
def test_missing_and_empty_keys_are_disabled(text: str, tmp_path: Path) -> None:
    config = parse_web_config(text, "web.yml", tmp_path)
    assert (config.context, dict(config.users), config.headers, config.rate_limit) == (None, {}, (), None)


def test_keys_and_values_of_go_s_string_maps_are_text(tmp_path: Path) -> None:
    names = ("12345", "on", "no", "1.50", "0x10", "2026-11-24", "2026-02-31", "null", "~", "9" * 200, "1_0")
    users = "".join(f"  {name}: {HASH}\n" for name in names)
    config = parse_web_config(
        f"basic_auth_users:\n{users}"
        "http_server_config: {headers: {X-XSS-Protection: 0, Content-Security-Policy: }}\n",
        "web.yml",
        tmp_path,
    )
    assert dict(config.users) == dict.fromkeys(names, HASH.encode())
    assert config.headers == (("X-XSS-Protection", "0"),)


@pytest.mark.parametrize("indicator", ["|", ">"])
def test_the_newline_after_a_header_in_a_block_is_ignored(indicator: str, tmp_path: Path) -> None:
    text = f"http_server_config:\n  headers:\n    X-Frame-Options: {indicator}\n      deny\n"
    assert parse_web_config(text, "web.yml", tmp_path).headers == (("X-Frame-Options", "deny"),)


def test_a_user_with_and_without_quotes_is_a_duplicate(tmp_path: Path) -> None:
    (problem,) = problems(f"basic_auth_users:\n  12345: {HASH}\n  '12345': {HASH}\n", tmp_path)
    assert problem == "web.yml:3: basic_auth_users.12345: duplicate key, first defined on line 2"


@pytest.mark.parametrize("value", ["12345", "1.5", "on", "2026-11-24", "2026-02-31", "null", "~", ""])
def test_a_hash_that_is_not_text_in_yaml_is_refused_and_not_shown(value: str, tmp_path: Path) -> None:
    (problem,) = problems(f"basic_auth_users:\n  12345: {value}\n", tmp_path)
    place, _, message = problem.partition(".12345: ")
    assert place == "web.yml:2: basic_auth_users"
    assert message.removesuffix(", got an empty value").endswith(
        "a bcrypt hash, as `htpasswd -nBC 10 ''` writes it"
    )
    assert "12345" not in message
    assert value not in message or value in {"", "on"}


@pytest.mark.parametrize(
    "text",
    [
        "12345: {}",
        "tls_server_config: {12345: x}",
        "rate_limit: {on: 1}",
        "http_server_config: {1: {}}",
        "basic_auth_users: {[a]: x}",
        "basic_auth_users: {alice: {1: x}}",
    ],
)
def test_keys_elsewhere_are_text_to_yaml_or_an_error(text: str, tmp_path: Path) -> None:
    assert "keys must be strings, but this key is a" in problems(text, tmp_path)[0]


def test_paths_are_relative_to_the_file(directory: Path) -> None:
    (directory / "web.yml").write_text(TLS, encoding="utf-8")
    assert load_web_config(directory / "web.yml").files == (
        directory / "server.pem",
        directory / "server.key",
    )


def test_certificates_may_be_inline(directory: Path) -> None:
    def block(name: str) -> str:
        lines = (directory / name).read_text(encoding="utf-8").splitlines()
        return "|\n" + "".join(f"    {line}\n" for line in lines)

    text = (
        f"tls_server_config:\n  cert: {block('server.pem')}  key: {block('server.key')}"
        f"  client_ca: {block('ca.pem')}  client_auth_type: VerifyClientCertIfGiven\n"
    )
    config = parse_web_config(text, "web.yml", directory)
    assert config.context is not None
    assert config.context.verify_mode == ssl.CERT_OPTIONAL
    assert config.context.cert_store_stats()["x509_ca"] == 1
    assert config.files == ()


def test_the_minimum_version_is_tls_1_2_by_default(directory: Path) -> None:
    context = parse_web_config(TLS, "web.yml", directory).context
    assert context is not None
    assert (context.minimum_version, context.maximum_version) == (
        ssl.TLSVersion.TLSv1_2,
        ssl.TLSVersion.TLSv1_3,
    )


def test_suites_of_tls_1_3_alone_disable_tls_1_2_as_in_go(directory: Path) -> None:
    context = parse_web_config(
        TLS + "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", "web.yml", directory
    ).context
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


def test_the_server_s_order_of_suites_is_the_default(directory: Path) -> None:
    for preference, counts in (("true", True), ("false", False)):
        text = TLS + f"  prefer_server_cipher_suites: {preference}\n"
        context = parse_web_config(text, "web.yml", directory).context
        assert context is not None
        assert bool(context.options & ssl.OP_CIPHER_SERVER_PREFERENCE) is counts


@pytest.mark.parametrize(
    ("line", "place", "message"),
    [
        (
            "client_auth_type: RequestClientCert",
            "client_auth_type",
            "not supported: RequestClientCert",
        ),
        ("client_auth_type: RequireAnyClientCert", "client_auth_type", "not supported: RequireAnyClientCert"),
        (
            "client_auth_type: Always",
            "client_auth_type",
            "'Always' is not NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert",
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert",
            "client_auth_type",
            "needs client_ca_file or client_ca",
        ),
        ("client_ca_file: ca.pem", "client_ca_file", "has no effect without client_auth_type"),
        ("client_allowed_sans: [a]", "client_allowed_sans", "needs client_auth_type: RequireAndVerify"),
        ("client_allowed_sans: []", "client_allowed_sans", "must have at least one entry"),
        ("min_version: TLS10", "min_version", "not supported: TLS10"),
        ("min_version: TLS1.2", "min_version", "'TLS1.2' is not TLS12 or TLS13"),
        ("min_version: TLS13\n  max_version: TLS12", "min_version", "is above max_version"),
        (
            "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]",
            "cipher_suites[0]",
            "'TLS_RSA_WITH_RC4_128_SHA' is not one of TLS_ECDHE_",
        ),
        (
            "cipher_suites: [TLS_AES_128_GCM_SHA256]\n  max_version: TLS12",
            "cipher_suites",
            "none for TLS 1.2",
        ),
        ("curve_preferences: [X25519, CurveP256]", "curve_preferences", "not supported: more than one curve"),
        ("curve_preferences: [P256]", "curve_preferences[0]", "'P256' is not one of CurveP256, "),
        ("prefer_server_cipher_suites: 1", "prefer_server_cipher_suites", "1 is not true or false"),
        ("cert: x", "cert", "cert and cert_file are mutually exclusive"),
        ("client_ca_files: ca.pem", "client_ca_files", "unknown key (did you mean client_ca_file?)"),
    ],
)
def test_unsupported_tls_settings_are_refused_with_their_place(
    line: str, place: str, message: str, directory: Path
) -> None:
    (problem,) = problems(f"{TLS}  {line}\n", directory)
    assert problem.startswith(f"web.yml:4: tls_server_config.{place}: ")
    assert message in problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "http_server_config: {headers: {X-Other: a}}",
            "headers.X-Other: this key is not one of Strict-Transport-Security, X-Content-Type-Options, ",
        ),
        (
            "http_server_config: {headers: {X-Frame-Options: maybe}}",
            "web.yml:1: http_server_config.headers.X-Frame-Options: 'maybe' is not deny or sameorigin",
        ),
        ('http_server_config:\n  headers:\n    X-XSS-Protection: "a\\nSet-Cookie: b"', "web.yml:3: "),
        ("http_server_config: {http2: yes please}", "'yes please' is not true or false"),
        ("basic_auth_users: {'a:b': x}", "is not a user name of 1 to 200 characters without :"),
        *(
            (
                f"basic_auth_users:{users}",
                "web.yml:1: basic_auth_users: has no users, so everyone would have access; add a user,",
            )
            for users in ("", " ''", " null", "\n#  alice: $2b$04$", "\nrate_limit: {}")
        ),
        ("basic_auth_users: [alice]", "web.yml:1: basic_auth_users: expected a mapping, got a list"),
        ("rate_limit: {interval: 1s}", "web.yml:1: rate_limit: a burst of 0 would refuse every request"),
        (
            "rate_limit: {interval: often, burst: 1}",
            "'often' is not a duration (expected e.g. 1s, 500ms, or 0 for no limit)",
        ),
        ("rate_limit: {interval: 1s, burst: -1}", "-1 is not a whole number from 0 to 1000000"),
        (
            "tls_server_config: {min_version: TLS13}",
            "web.yml:1: tls_server_config: missing, set cert or cert_file",
        ),
        (
            "web: {}",
            (
                "web.yml:1: web: unknown key; allowed keys: tls_server_config, http_server_config, "
                "basic_auth_users"
            ),
        ),
        (
            "basic_auth_users: {}\nbasic_auth_users: {}",
            "web.yml:2: basic_auth_users: duplicate key",
        ),
        ("", "web.yml:1: the file is empty"),
        ("- a", "web.yml:1: expected a mapping (keys: tls_server_config, "),
    ],
)
def test_the_other_sections_are_strict_too(text: str, message: str, tmp_path: Path) -> None:
    assert message in problems(text, tmp_path)[0]


def test_all_problems_are_reported_together(directory: Path) -> None:
    found = problems(f"{TLS}  min_version: a\nbasic_auth_users:\n  alice: b\nhttp2: false\n", directory)
    assert [each.split(": ")[0] for each in found] == ["web.yml:4", "web.yml:6", "web.yml:7"]


@pytest.mark.parametrize(
    "hashed",
    [
        "secret-word",
        "$1$secret-word",
        HASH[:-1],
        HASH + "a",
        HASH.replace("$04$", "$99$"),
        "$2b$04$" + 53 * "9",
    ],
)
def test_a_password_that_is_not_a_bcrypt_hash_is_refused_and_not_shown(hashed: str, tmp_path: Path) -> None:
    (problem,) = problems(f"basic_auth_users:\n  alice: '{hashed}'\n", tmp_path)
    place = "web.yml:2: basic_auth_users.alice: "
    expected = f"{place}the value is not a bcrypt hash, as `htpasswd -nBC 10 ''` writes it"
    assert problem == expected


def test_a_cost_above_the_limit_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(f"basic_auth_users:\n  alice: {HASH.replace('$04$', '$19$')}\n", tmp_path)
    assert problem.startswith("web.yml:2: basic_auth_users.alice: not supported: a cost above 18")


@pytest.mark.parametrize(
    "text",
    [
        "basic_auth_users: {SECRET: a}",
        "basic_auth_users: {SECRET: a, SECRET: b}",
        "basic_auth_users: {alice: {SECRET: a}}",
        "basic_auth_users: {alice: [SECRET]}",
        "basic_auth_users: SECRET",
        "basic_auth_users: [SECRET]",
        "SECRET",
        "[SECRET]",
        "tls_server_config: {key: {SECRET: 1, SECRET: 2}}",
        "tls_server_config: {key: SECRET, cert: SECRET}",
        "tls_server_config: {key: [SECRET]}",
        "tls_server_config: SECRET",
        "basic_auth_users: {alice: SECRET: b}",
        "basic_auth_users: {12345: SECRET: b}",
        "basic_auth_users: {12345: a, 12345: SECRET}",
        "basic_auth_users: {12345: {SECRET: a}}",
        "http_server_config: {headers: {SECRET: a}}",
    ],
)
@pytest.mark.parametrize("secret", [HASH, "'-----BEGIN PRIVATE KEY----- x'"])
def test_no_error_shows_a_secret_in_the_wrong_place(text: str, secret: str, tmp_path: Path) -> None:
    for problem in problems(text.replace("SECRET", secret), tmp_path):
        assert secret.strip("'")[8:] not in problem


def test_a_hash_is_not_in_the_repr(tmp_path: Path) -> None:
    config = parse_web_config(f"basic_auth_users: {{alice: {HASH}}}", "web.yml", tmp_path)
    assert HASH not in repr(config)
    assert isinstance(config, WebConfig)


def break_file(directory: Path, name: str, text: str | None) -> None:
    (directory / name).unlink()
    if text is not None:
        (directory / name).write_text(text, encoding="utf-8")


NOT_THERE = "{} cannot be read: No such file or directory"
NO_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("server.pem", None, NOT_THERE),
        ("server.key", None, NOT_THERE),
        ("ca.pem", None, NOT_THERE),
        ("server.pem", "x", "contains no certificate in PEM format"),
        ("server.key", "x", "contains no private key in PEM format"),
        ("ca.pem", "x", "contains no certificate in PEM format"),
        ("server.pem", NO_CERTIFICATE, "cannot be used with key_file: "),
        ("ca.pem", NO_CERTIFICATE, "contains an invalid certificate"),
    ],
)
def test_an_invalid_certificate_is_reported_with_its_key(
    name: str, text: str | None, message: str, directory: Path
) -> None:
    break_file(directory, name, text)
    more = "  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
    line, key = {
        "server.pem": (2, "cert_file"),
        "server.key": (3, "key_file"),
        "ca.pem": (4, "client_ca_file"),
    }[name]
    (problem,) = problems(TLS + more, directory)
    assert problem.startswith(f"web.yml:{line}: tls_server_config.{key}: {message.format(directory / name)}")


def test_a_key_of_another_certificate_is_refused(authority: Authority, directory: Path) -> None:
    other = authority.issue("other")
    (problem,) = problems(TLS.replace("server.key", other.key.name), directory)
    assert problem == "web.yml:3: tls_server_config.key_file: does not match cert_file"


def test_an_encrypted_key_is_refused_without_a_password_prompt(directory: Path) -> None:
    key = directory / "server.key"
    encrypt = f"openssl pkcs8 -topk8 -passout pass:abcd -in {key} -out {directory}/locked".split()
    subprocess.run(encrypt, check=True, capture_output=True)
    key.write_bytes((directory / "locked").read_bytes())
    (problem,) = problems(TLS, directory)
    assert problem == "web.yml:3: tls_server_config.key_file: not supported: an encrypted private key"


def test_a_missing_or_unreadable_file_is_an_error_on_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yml", tmp_path):
        with pytest.raises(ConfigError) as caught:
            load_web_config(path)
        (problem,) = caught.value.problems
        assert problem.startswith(f"{path}: ")
