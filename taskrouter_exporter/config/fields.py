"""The types of the configuration's values: what each accepts, its error message and its JSON Schema."""

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

from taskrouter_exporter.config.time_zones import is_time_zone, similar_time_zone
from taskrouter_exporter.durations import parse_duration
from taskrouter_exporter.sids import is_sid, sid_pattern
from taskrouter_exporter.statistics.kind import StatisticsName

AUTO: Final = "auto"
"""The word for workspaces, TaskChannels, queues or workflows that are discovered at run time."""

CREDENTIAL_FORMAT: Final = "1 to 512 printable ASCII characters without spaces or line breaks"

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
"""The edge location of each region, from `regionToEdge` in Twilio's own library twilio-go."""

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[(?P<ipv6>[0-9A-Fa-f:.]+)\]"
    r"|[A-Za-z0-9][A-Za-z0-9-]{0,62}(\.[A-Za-z0-9-]{1,63})*\.?)(:(?P<port>[0-9]{1,5}))?"
    r"(/[A-Za-z0-9._~-]+)*/?"
)
_MAX_HOST_NAME: Final = 254  # with a dot at its end
_MAX_PORT: Final = 65535
_HOSTNAME_LABEL: Final = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_SECRET: Final = re.compile(r"[!-~]{1,512}")
_PLACEHOLDER: Final = re.compile(
    r"\$\{.*\}|\$\(.*\)|\$[A-Za-z_][A-Za-z0-9_]*|\{\{.*\}\}|%\(.*\)s|%[A-Za-z_][A-Za-z0-9_]*%|<.*>"
)
"""Placeholders of shells, templates, Python and documentation. Twilio's secrets are letters and digits, so
none of them looks like one."""
_TIME_ZONE: Final = "a time zone of the IANA database"
_TIME_ZONE_EXAMPLE: Final = "e.g. Europe/Berlin"


@dataclass(frozen=True, slots=True)
class Allowed:
    """An annotation that replaces every error of a type by what the type accepts.

    Attributes:
        what: A noun phrase that completes "is not": "a duration".
        hint: The format, or an example, after "expected": "e.g. 15m, 4h".
        any_string: Whether a value that YAML does not read as a string (`no`, `15:00`) is valid in quotes.
            The errors are then of type "string" instead of "allowed".
    """

    what: str
    hint: str | None = None
    any_string: bool = False

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        context: dict[str, str | int | float] = {"what": self.what}
        if self.hint:
            context["hint"] = self.hint
        return core_schema.custom_error_schema(
            handler(source),
            custom_error_type="string" if self.any_string else "allowed",
            custom_error_message="{what}",
            custom_error_context=context,
        )


class NotNull:
    """An annotation that makes `X | None` accept only X: an optional key, if present, must have a value."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        nullable: Any = handler(source)
        inner: CoreSchema = nullable["schema"]
        return inner


class OrAuto:
    """An annotation that makes a list type accept the word `auto` as well, for the list `[auto]`."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_list_or_auto, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, object]:
        return {"anyOf": [{"const": AUTO}, handler(schema)]}


def is_one_line(text: str) -> bool:
    """Return whether the text is not blank and has no control characters."""
    return bool(text.strip()) and not any(unicodedata.category(character) == "Cc" for character in text)


def is_secret(text: str) -> bool:
    """Return whether the text can be an auth token or the secret of an API key."""
    return _SECRET.fullmatch(text) is not None


def is_placeholder(text: str) -> bool:
    """Return whether the whole text is a placeholder: `${NAME}`, `{{ name }}`, `<name>` and the like."""
    return _PLACEHOLDER.fullmatch(text.strip()) is not None


def has_quotation_marks(text: str) -> bool:
    """Return whether the text is in quotation marks: Docker leaves them in the values of env files."""
    return re.fullmatch("\".*\"|'.*'", text) is not None


def without_newline(text: str) -> str:
    """Return the text without one newline (LF or CRLF) at its end: files and `echo` add one."""
    return text.removesuffix("\n").removesuffix("\r")


def not_allowed(what: str, hint: str | None = None) -> PydanticCustomError:
    """Return the error of a validator, with the same meaning of its arguments as in `Allowed`."""
    return PydanticCustomError("allowed", "{what}", {"what": what} | ({"hint": hint} if hint else {}))


def _list_or_auto(value: object) -> object:
    if value == AUTO:
        return [AUTO]
    if not isinstance(value, list):
        raise not_allowed(f"a list or {AUTO}")
    return value


def _check_one_line(text: str) -> str:
    if not is_one_line(text):
        raise ValueError
    return text


def _check_channel(text: str) -> str:
    # A SID with a digit missing, or with `tc`, would pass as a unique name and fail with 404 in every poll.
    if re.fullmatch("[Tt][Cc][0-9A-Fa-f]{16,}", text) and not is_sid("TC", text):
        raise not_allowed("a TaskChannel SID", "TC and 32 hex digits")
    return text


def _check_row(prefix: str, noun: str) -> Callable[[str], str]:
    """Return a validator that rejects a malformed SID, which would pass as a name."""

    def validate(text: str) -> str:
        if re.fullmatch(f"{prefix}[0-9A-Fa-f]{{16,}}", text, re.IGNORECASE) and not is_sid(prefix, text):
            raise not_allowed(f"a {noun} SID", f"{prefix} and 32 hex digits")
        return text

    return validate


def _check_secret(value: SecretStr) -> SecretStr:
    text = without_newline(value.get_secret_value())  # a block scalar (`password: |`) ends with one
    if not is_secret(text):
        raise ValueError
    return SecretStr(text)


def _reject_placeholder(variables: str, remedy: str) -> Callable[[object], object]:
    """Return a validator that rejects placeholders, with what to do instead."""

    def validate(value: object) -> object:
        if isinstance(value, str) and is_placeholder(value):
            message = (
                f"placeholders are not expanded; {remedy}, "
                f"or remove accounts and set {variables} in the environment"
            )
            raise PydanticCustomError("placeholder", "{message}", {"message": message})
        return value

    return validate


def _check_time_zone(text: str) -> str:
    if is_time_zone(text):
        return text
    if meant := similar_time_zone(text):
        raise not_allowed(f"{_TIME_ZONE} (did you mean {meant}?)")
    raise not_allowed(_TIME_ZONE, _TIME_ZONE_EXAMPLE)


def _check_base_url(text: str) -> str:
    match = _URL.fullmatch(text)
    if match is None or not _is_address(match["host"], match["ipv6"], int(match["port"] or 1)):
        raise not_allowed(
            "a base URL", "https://host or https://host:port/path, without user, query or fragment"
        )
    if match["scheme"] == "http" and not _is_loopback(match["host"].strip("[]")):
        raise PydanticCustomError(
            "sentence",
            "http:// would send the credentials unencrypted; it is only allowed for 127.0.0.0/8, ::1 and "
            "localhost",
        )
    return text.rstrip("/")


def _is_address(host: str, ipv6: str | None, port: int) -> bool:
    try:
        ipaddress.IPv6Address(ipv6 or "::")
    except ValueError:
        return False
    return len(host) <= _MAX_HOST_NAME and 1 <= port <= _MAX_PORT


def _is_loopback(host: str) -> bool:
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parse_whole_seconds(value: object) -> int:
    seconds = _parse_between("1s", "1d", "s")(value)
    if seconds % 1:
        raise not_allowed("a whole number of seconds", "e.g. 20s, 1m")
    return int(seconds)


def _parse_between(shortest: str, longest: str, unit: Literal["s", "m"]) -> Callable[[object], float]:
    """Return a validator that turns a duration into seconds, or into whole minutes."""
    examples = "e.g. 15m, 4h" if unit == "m" else "e.g. 5s, 500ms"

    def validate(value: object) -> float:
        try:
            duration = parse_duration(value if isinstance(value, str) else "")
        except ValueError:
            raise not_allowed("a duration", examples) from None
        if not parse_duration(shortest) <= duration <= parse_duration(longest):
            raise not_allowed(f"between {shortest} and {longest}")
        if unit == "s":
            return duration.total_seconds()
        if duration % timedelta(minutes=1):
            raise not_allowed("a whole number of minutes", examples)
        return duration // timedelta(minutes=1)

    return validate


_DURATION_JSON: Final = {
    "type": "string",
    "pattern": "^(0|(?=.)([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$",
}
Name = Annotated[
    str,
    Field(min_length=1, max_length=200),
    AfterValidator(_check_one_line),
    Allowed("a valid name", "1 to 200 characters, not blank, no control characters", any_string=True),
]
Channel = Annotated[Name, AfterValidator(_check_channel)]
WorkspaceSid = Annotated[
    str, Field(pattern=sid_pattern("WS")), Allowed("a workspace SID", "WS and 32 hex digits")
]
Username = Annotated[
    str,
    Field(pattern=sid_pattern("AC", "SK")),
    Allowed("an account SID or API key SID", "AC or SK and 32 hex digits"),
    BeforeValidator(_reject_placeholder("TWILIO_ACCOUNT_SID or TWILIO_API_KEY", "write the SID itself")),
]
Secret = Annotated[
    SecretStr,
    AfterValidator(_check_secret),
    Allowed("a valid password", CREDENTIAL_FORMAT, any_string=True),
    BeforeValidator(_reject_placeholder("TWILIO_AUTH_TOKEN or TWILIO_API_SECRET", "use password_file")),
]
FileName = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    AfterValidator(_check_one_line),
    Allowed("a valid path", "1 to 1024 characters, not blank, no control characters", any_string=True),
]
Edge = Annotated[
    str,
    Field(pattern=_HOSTNAME_LABEL),
    Allowed("an edge location", "lowercase letters, digits and hyphens, e.g. dublin"),
]
Region = Annotated[
    str,
    Field(pattern=_HOSTNAME_LABEL),
    Allowed("a region", "lowercase letters, digits and hyphens, e.g. ie1"),
]
BaseUrl = Annotated[str, Allowed("a base URL", "e.g. https://host"), AfterValidator(_check_base_url)]
Minutes = Annotated[int, BeforeValidator(_parse_between("1m", "30d", "m")), WithJsonSchema(_DURATION_JSON)]
RequestTimeout = Annotated[
    float, BeforeValidator(_parse_between("100ms", "5m", "s")), WithJsonSchema(_DURATION_JSON)
]
CacheTime = Annotated[float, BeforeValidator(_parse_between("0s", "1h", "s")), WithJsonSchema(_DURATION_JSON)]
DiscoveryInterval = Annotated[
    float, BeforeValidator(_parse_between("10s", "1d", "s")), WithJsonSchema(_DURATION_JSON)
]
NamePattern = Annotated[
    str,
    Field(min_length=1, max_length=200),
    AfterValidator(_check_one_line),
    Allowed("a valid name pattern", "1 to 200 characters, e.g. support-*", any_string=True),
]
QueueNames = Annotated[
    list[Annotated[Name, AfterValidator(_check_row("WQ", "TaskQueue"))]], Field(min_length=1), OrAuto()
]
WorkflowNames = Annotated[
    list[Annotated[Name, AfterValidator(_check_row("WW", "Workflow"))]], Field(min_length=1), OrAuto()
]
ServiceLevel = Annotated[int, BeforeValidator(_parse_whole_seconds), WithJsonSchema(_DURATION_JSON)]
StatisticsNames = Annotated[
    list[Annotated[StatisticsName, Allowed("workers, tasks or realtime")]], Field(min_length=1)
]
Channels = Annotated[list[Channel], Field(min_length=1), OrAuto()]
Counters = Annotated[Annotated[Literal["day", "week"], Allowed("day or week")] | None, NotNull()]
TimeZone = Annotated[str, Allowed(_TIME_ZONE, _TIME_ZONE_EXAMPLE), AfterValidator(_check_time_zone)]
