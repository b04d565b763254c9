"""The keys of the configuration file: types, defaults, bounds and what they are for.

`python -m taskrouter_exporter.config.schema` writes them as JSON Schema, for editors.
"""

import ipaddress
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from taskrouter_exporter.config.model import AUTO, DEFAULT_ACCOUNT, DISCOVERY_SECONDS, Polling
from taskrouter_exporter.durations import format_duration, parse_duration
from taskrouter_exporter.queries import ALL_CHANNELS, AnchorName
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


def _written(seconds: float) -> str:
    return format_duration(timedelta(seconds=seconds))


class _StrictModel(BaseModel):
    """A mapping with exactly these keys."""

    # hide_input: an error that escaped would otherwise show what it found, a password perhaps.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class AccountModel(_StrictModel):
    """One set of Twilio credentials and the API host they belong to."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["password"]}, {"required": ["password_file"]}],
            "dependentRequired": {
                "edge": ["region"],
                **{key: ["workspaces"] for key in ("include", "exclude", "channels", "windows", "counters")},
            },
            "dependentSchemas": {"base_url": {"properties": {"region": False, "edge": False}}},
        }
    )

    username: Username = Field(
        description="Account SID (AC…) or API key SID (SK…). An API key belongs to one region.",
        examples=["SK0123456789abcdef0123456789abcdef"],
    )
    password: Annotated[Secret | None, NotNull()] = Field(
        default=None,
        description="Auth token of the account, or secret of the API key. Either this or password_file.",
    )
    password_file: Annotated[FileName | None, NotNull()] = Field(
        default=None,
        description="File that holds the password, relative to this file. Read again when it changes, so "
        "that a password can be rotated without a restart. One newline at its end and a UTF-8 byte order "
        "mark at its beginning are ignored.",
        examples=["auth_token"],
    )
    edge: Annotated[Edge | None, NotNull()] = Field(
        default=None,
        description="Edge location through which the region is reached. Needs region, and defaults to the "
        "region's own: " + ", ".join(f"{edge} for {region}" for region, edge in EDGES.items()) + ".",
        examples=["dublin"],
    )
    region: Annotated[Region | None, NotNull()] = Field(
        default=None,
        description="Region that holds the workspaces. Default: taskrouter.twilio.com, which is us1.",
        examples=["ie1"],
    )
    base_url: Annotated[BaseUrl | None, NotNull()] = Field(
        default=None,
        description="Address of the API, instead of region and edge: a proxy or a simulator. http:// only "
        "towards loopback, because it sends the credentials in clear.",
        examples=["https://taskrouter.twilio.com", "http://127.0.0.1:8080"],
    )
    workspaces: Annotated[Annotated[Literal["auto"], Allowed(AUTO)] | None, NotNull()] = Field(
        default=None,
        description="`auto` polls every workspace that the credentials reach, beside those in targets: the "
        "list is read again every discovery.interval. Entries of it that cannot be read are skipped, with a "
        "warning in the log. Default: only the workspaces in targets.",
    )
    include: Annotated[list[NamePattern] | None, NotNull()] = Field(
        default=None,
        min_length=1,
        description="With workspaces: auto, only the workspaces whose friendly name matches one of these "
        "patterns: * is any text, ? any character, [ab] one of these. Upper and lower case differ. "
        "Default: all.",
        examples=[["support-*", "sales"]],
    )
    exclude: Annotated[list[NamePattern] | None, NotNull()] = Field(
        default=None,
        min_length=1,
        description="With workspaces: auto, not the workspaces whose friendly name matches one of these "
        "patterns, even if include has them. Default: none.",
        examples=[["*-test"]],
    )
    channels: Channels = Field(
        default=[ALL_CHANNELS],
        description="With workspaces: auto, the TaskChannels to ask about in each workspace found: as in "
        "targets.",
        examples=[[ALL_CHANNELS, AUTO]],
    )
    windows: list[Minutes] = Field(
        default=["15m"],
        validate_default=True,
        description="With workspaces: auto, the sliding windows to ask about: as in targets.",
        examples=[["15m", "4h", "8h"]],
    )
    counters: Counters = Field(
        default=None,
        description="With workspaces: auto, also count since midnight UTC of the `day`, or of the `week`'s "
        "Monday: as in targets. Default: no counters.",
    )

    @field_validator("region")
    @classmethod
    def _region_has_an_edge(cls, region: str, others: ValidationInfo) -> str:
        if region not in EDGES and others.data.get("edge", "invalid") is None:
            raise PydanticCustomError(
                "sentence",
                "{regions} have a known edge, any other needs its edge given",
                {"regions": ", ".join(EDGES)},
            )
        return region


class PollingModel(_StrictModel):
    """How the API is asked."""

    concurrency: Annotated[int, Field(ge=1, le=1000), Allowed("a whole number from 1 to 1000")] = Field(
        default=Polling.concurrency,
        description="API requests in flight at most, over all accounts. 1 to 1000.",
    )
    attempts: Annotated[int, Field(ge=1, le=10), Allowed("a whole number from 1 to 10")] = Field(
        default=Polling.attempts,
        description="HTTP attempts per query, the first one included. 1 to 10.",
    )
    request_timeout: RequestTimeout = Field(
        default=Polling.request_timeout,
        description="Time that one attempt may take, from connecting to the last byte. 100ms to 5m.",
        json_schema_extra={"default": _written(Polling.request_timeout)},
    )
    cache: CacheTime = Field(
        default=Polling.cache,
        description="How long a good answer is used again instead of asking the API. It is never used "
        "longer, nor after a failure. 0s to 1h.",
        json_schema_extra={"default": _written(Polling.cache)},
    )


class DiscoveryModel(_StrictModel):
    """How workspaces and TaskChannels are found where the configuration says `auto`."""

    interval: DiscoveryInterval = Field(
        default=DISCOVERY_SECONDS,
        description="How often the lists of workspaces and TaskChannels are read again. 10s to 1d.",
        json_schema_extra={"default": _written(DISCOVERY_SECONDS)},
    )


class TargetModel(_StrictModel):
    """A workspace, and what to ask about it."""

    workspace: WorkspaceSid = Field(
        description="Workspace SID.", examples=["WS0123456789abcdef0123456789abcdef"]
    )
    name: Annotated[Name | None, NotNull()] = Field(
        default=None,
        description="Label `workspace` of the metrics: any text of up to 200 characters. Default: the SID.",
        examples=["support"],
    )
    account: Name = Field(
        default=DEFAULT_ACCOUNT,
        description="Name of the account whose credentials reach the workspace.",
    )
    channels: Channels = Field(
        default=[ALL_CHANNELS],
        description="TaskChannels to ask about, by unique name or SID (TC…). `all` asks for statistics over "
        "every channel. `auto`, alone or in the list, stands for each TaskChannel that the workspace has: "
        "the list is read again every discovery.interval. Each channel with each window is one API request "
        "per scrape.",
        examples=[[ALL_CHANNELS, "voice", "chat"]],
    )
    windows: list[Minutes] = Field(
        default=["15m"],
        validate_default=True,
        description="Sliding windows to ask about, in whole minutes from 1m to 30d. Only where there are "
        "counters may the list be empty.",
        examples=[["15m", "4h", "8h"]],
    )
    counters: Counters = Field(
        default=None,
        description="Also count since midnight UTC of the `day`, or of the `week`'s Monday, for rate() and "
        "increase(). One more API request per channel and scrape. Default: no counters.",
    )


class FileModel(_StrictModel):
    """Configuration of the Twilio TaskRouter exporter."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["targets"], "properties": {"targets": {"minItems": 1}}},
                # Some account has the key: not every one of them is without it.
                {
                    "required": ["accounts"],
                    "properties": {
                        "accounts": {"not": {"additionalProperties": {"not": {"required": ["workspaces"]}}}}
                    },
                },
            ]
        }
    )

    accounts: Annotated[dict[Name, AccountModel] | None, NotNull()] = Field(
        default=None,
        min_length=1,
        description="Twilio credentials by a name of your own. Without this key there is one account, "
        "`default`, from the environment: TWILIO_ACCOUNT_SID with TWILIO_AUTH_TOKEN, or TWILIO_API_KEY with "
        "TWILIO_API_SECRET, and optionally TWILIO_REGION with TWILIO_EDGE.",
    )
    polling: PollingModel = Field(default_factory=PollingModel, description="How the API is asked.")
    discovery: DiscoveryModel = Field(
        default_factory=DiscoveryModel,
        description="How workspaces and TaskChannels are found where it says `auto`.",
    )
    targets: list[TargetModel] = Field(
        default=[],
        description="What to poll. May be left out where an account has workspaces: auto.",
    )


def json_schema() -> str:
    """The configuration file's JSON Schema, as it is committed in docs/."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **FileModel.model_json_schema()}
    return json.dumps(_tidied(schema), indent=2, ensure_ascii=False) + "\n"


def _tidied(schema: Any) -> Any:  # noqa: ANN401 - any JSON
    """Without what pydantic adds and says nothing: titles that repeat the key, a default that is none."""
    if isinstance(schema, list):
        return [_tidied(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _tidied(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }


if __name__ == "__main__":
    sys.stdout.write(json_schema())
