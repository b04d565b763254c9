"""The keys of the configuration file: types, defaults, bounds and what they are for."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from taskrouter_exporter.config.fields import (
    EDGES,
    Allowed,
    BaseUrl,
    CacheTime,
    Channels,
    Counters,
    DiscoveryInterval,
    Edge,
    FileName,
    Minutes,
    Name,
    NamePattern,
    NotNull,
    Region,
    RequestTimeout,
    Secret,
    Username,
    WorkspaceSid,
)
from taskrouter_exporter.config.model import AUTO, DEFAULT_ACCOUNT, DISCOVERY_SECONDS, Polling
from taskrouter_exporter.durations import format_duration
from taskrouter_exporter.queries import ALL_CHANNELS


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
