"""The types of the configuration's values: what each allows, in messages and in the JSON Schema."""

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from taskrouter_exporter.config.model import AUTO
from taskrouter_exporter.durations import parse_duration
from taskrouter_exporter.queries import AnchorName
from taskrouter_exporter.sids import is_sid, sid_pattern

EDGES: Final[Mapping[str, str]] = {
    "au1": "sydney",
    "br1": "sao-paulo",
    "de1": "frankfurt",
    "ie1": "dublin",
    "jp1": "tokyo",
    "jp2": "osaka",
    "sg1": "singapore",
    "us1": "ashburn",
    "us2": "umatilla",
}
"""The edge of each region, as Twilio's own libraries have them (`regionToEdge` in twilio-go)."""

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[(?P<ipv6>[0-9A-Fa-f:.]+)\]"
    r"|[A-Za-z0-9][A-Za-z0-9-]{0,62}(\.[A-Za-z0-9-]{1,63})*\.?)(:(?P<port>[0-9]{1,5}))?"
    r"(/[A-Za-z0-9._~-]+)*/?"
)

_SECRET: Final = re.compile(r"[!-~]{1,512}")

_LONGEST_HOST_NAME: Final = 254  # with a dot at its end

_HIGHEST_PORT: Final = 65535

CREDENTIAL_FORMAT: Final = "1 to 512 printable ASCII characters without spaces or line breaks"

_PLACEHOLDER: Final = re.compile(
    r"\$\{.*\}|\$\(.*\)|\$[A-Za-z_][A-Za-z0-9_]*|\{\{.*\}\}|%\(.*\)s|%[A-Za-z_][A-Za-z0-9_]*%|<.*>"
)
"""What shells, templates, Python and documentation write for a value to be filled in. No secret of Twilio's
looks like it: those are letters and digits."""

_HOSTNAME_LABEL: Final = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


@dataclass(frozen=True, slots=True)
class Allowed:
    """Answers any violation of a type with one phrase: what is allowed.

    The error is of type "allowed", and of type "text" where a value that YAML takes for something else
    (`no`, `15:00`) could be quoted to be allowed.
    """

    what: str
    any_text: bool = False

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(
            handler(source),
            custom_error_type="text" if self.any_text else "allowed",
            custom_error_message="{what}",
            custom_error_context={"what": self.what},
        )


class NotNull:
    """Makes `X | None` accept only X: a key that is given has a value, and None is its absence."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        nullable: Any = handler(source)
        inner: CoreSchema = nullable["schema"]
        return inner


class OrAuto:
    """Makes a list accept the word `auto` too, as the list that has nothing else in it."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: [AUTO] if value == AUTO else value, handler(source)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, object]:
        return {"anyOf": [{"const": AUTO}, handler(schema)]}


def _not_allowed(what: str) -> PydanticCustomError:
    return PydanticCustomError("allowed", "{what}", {"what": what})


def _one_line(text: str) -> str:
    if not is_one_line(text):
        raise ValueError
    return text


def _channel(text: str) -> str:
    # A missing digit or `tc` make a unique name of what was meant as a SID: 404 at every poll.
    if re.fullmatch("[Tt][Cc][0-9A-Fa-f]{16,}", text) and not is_sid("TC", text):
        raise _not_allowed("a TaskChannel SID: TC and 32 hex digits")
    return text


def _secret(value: SecretStr) -> SecretStr:
    text = without_newline(value.get_secret_value())  # a block (`password: |`) ends with one
    if not is_secret(text):
        raise ValueError
    return SecretStr(text)


def _no_placeholder(variables: str, instead: str) -> Callable[[object], object]:
    """Return a validator that refuses placeholders, and says what to do instead."""

    def validate(value: object) -> object:
        if isinstance(value, str) and is_placeholder(value):
            message = (
                f"a placeholder, and nothing is filled in here: {instead}, "
                f"or leave out accounts and set {variables} in the environment"
            )
            raise PydanticCustomError("placeholder", "{message}", {"message": message})
        return value

    return validate


def _base_url(text: str) -> str:
    match = _URL.fullmatch(text)
    if match is None or not _is_address(match["host"], match["ipv6"], int(match["port"] or 1)):
        raise _not_allowed("a URL such as https://host or https://host:port/path, with no user, ? or #")
    if match["scheme"] == "http" and not _is_loopback(match["host"].strip("[]")):
        raise PydanticCustomError(
            "sentence",
            "http:// would send the credentials in clear, it is for 127.0.0.0/8, ::1 and localhost only",
        )
    return text.rstrip("/")


def _is_address(host: str, ipv6: str | None, port: int) -> bool:
    try:
        ipaddress.IPv6Address(ipv6 or "::")
    except ValueError:
        return False
    return len(host) <= _LONGEST_HOST_NAME and 1 <= port <= _HIGHEST_PORT


def _is_loopback(host: str) -> bool:
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _duration(least: str, most: str, unit: Literal["s", "m"]) -> Callable[[object], float]:
    """A validator that turns a duration's text into a number of units: whole minutes, or seconds."""
    example = "15m, 4h" if unit == "m" else "5s, 500ms"

    def validate(value: object) -> float:
        try:
            duration = parse_duration(value if isinstance(value, str) else "")
        except ValueError:
            raise _not_allowed(f"a duration (write {example})") from None
        if not parse_duration(least) <= duration <= parse_duration(most):
            raise _not_allowed(f"a duration from {least} to {most}")
        if unit == "s":
            return duration.total_seconds()
        if duration % timedelta(minutes=1):
            raise _not_allowed(f"a duration in whole minutes (write {example})")
        return duration // timedelta(minutes=1)

    return validate


def is_one_line(text: str) -> bool:
    """Whether there is something to read in the text, and no control character."""
    return bool(text.strip()) and not any(unicodedata.category(character) == "Cc" for character in text)


def is_secret(text: str) -> bool:
    """Whether the text can be an auth token or an API key's secret: printable ASCII without spaces."""
    return _SECRET.fullmatch(text) is not None


def is_placeholder(text: str) -> bool:
    """Return whether the whole text is a placeholder: `${NAME}`, `{{ name }}`, `<name>` and the like."""
    return _PLACEHOLDER.fullmatch(text.strip()) is not None


def is_quoted(text: str) -> bool:
    """Return whether the text has quotation marks around it, as Docker leaves them in values of env files."""
    return re.fullmatch("\".*\"|'.*'", text) is not None


def without_newline(text: str) -> str:
    """Return the text without one newline at its end, Unix's or Windows's: files and `echo` add one."""
    return text.removesuffix("\n").removesuffix("\r")


_DURATION_JSON: Final = {
    "type": "string",
    "pattern": "^(0|(?=.)([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$",
}

Name = Annotated[
    str,
    Field(min_length=1, max_length=200),
    AfterValidator(_one_line),
    Allowed("a name of 1 to 200 characters, not blank and without control characters", any_text=True),
]

Channel = Annotated[Name, AfterValidator(_channel)]

WorkspaceSid = Annotated[
    str, Field(pattern=sid_pattern("WS")), Allowed("a workspace SID: WS and 32 hex digits")
]

Username = Annotated[
    str,
    Field(pattern=sid_pattern("AC", "SK")),
    Allowed("an account SID (AC…) or API key SID (SK…): AC or SK and 32 hex digits"),
    BeforeValidator(_no_placeholder("TWILIO_ACCOUNT_SID or TWILIO_API_KEY", "write the SID")),
]

Secret = Annotated[
    SecretStr,
    AfterValidator(_secret),
    Allowed(CREDENTIAL_FORMAT, any_text=True),
    BeforeValidator(_no_placeholder("TWILIO_AUTH_TOKEN or TWILIO_API_SECRET", "use password_file")),
]

FileName = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    AfterValidator(_one_line),
    Allowed("a path of 1 to 1024 characters, not blank and without control characters", any_text=True),
]

Edge = Annotated[
    str,
    Field(pattern=_HOSTNAME_LABEL),
    Allowed("an edge such as dublin, in lower-case letters, digits and hyphens"),
]

Region = Annotated[
    str,
    Field(pattern=_HOSTNAME_LABEL),
    Allowed("a region such as ie1, in lower-case letters, digits and hyphens"),
]

BaseUrl = Annotated[str, Allowed("a URL, such as https://host"), AfterValidator(_base_url)]

Minutes = Annotated[int, BeforeValidator(_duration("1m", "30d", "m")), WithJsonSchema(_DURATION_JSON)]

RequestTimeout = Annotated[
    float, BeforeValidator(_duration("100ms", "5m", "s")), WithJsonSchema(_DURATION_JSON)
]

CacheTime = Annotated[float, BeforeValidator(_duration("0s", "1h", "s")), WithJsonSchema(_DURATION_JSON)]

DiscoveryInterval = Annotated[
    float, BeforeValidator(_duration("10s", "1d", "s")), WithJsonSchema(_DURATION_JSON)
]

NamePattern = Annotated[
    str,
    Field(min_length=1, max_length=200),
    AfterValidator(_one_line),
    Allowed("a name pattern of 1 to 200 characters, such as support-*", any_text=True),
]

Channels = Annotated[list[Channel], Field(min_length=1), OrAuto()]

Counters = Annotated[Annotated[AnchorName, Allowed("day or week")] | None, NotNull()]
