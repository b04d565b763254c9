"""The models of the configuration file: the keys with their types, defaults and descriptions."""

from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from taskrouter_exporter.config.fields import (
    AUTO,
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
    QueueNames,
    Region,
    RequestTimeout,
    Secret,
    ServiceLevel,
    StatisticsNames,
    TimeZone,
    Username,
    WorkflowNames,
    WorkspaceSid,
)
from taskrouter_exporter.config.model import DEFAULT_ACCOUNT, DISCOVERY_SECONDS, Polling
from taskrouter_exporter.config.time_zones import UTC_NAME
from taskrouter_exporter.durations import format_duration
from taskrouter_exporter.queries import ALL_CHANNELS


def _format(seconds: float) -> str:
    return format_duration(timedelta(seconds=seconds))


class _StrictModel(BaseModel):
    """A mapping with exactly the keys of its model."""

    # hide_input: otherwise an error that is not caught would show the input, which may be a password.
    # defer_build: once with the model of the file, not each model by itself at every start.
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, defer_build=True
    )


class SelectionModel(_StrictModel):
    """What to poll in a workspace: the keys of `targets`, and of accounts with `workspaces: auto`."""

    channels: Channels = Field(
        default=[ALL_CHANNELS],
        description="TaskChannels to poll, by unique name or SID (TC…). `all` polls statistics over all "
        "channels. `auto`, alone or in the list, discovers the TaskChannels of the workspace; the list is "
        "refreshed every discovery.interval. Each channel takes one API request per window and scrape.",
        examples=[[ALL_CHANNELS, "voice", "chat"]],
    )
    windows: list[Minutes] = Field(
        default=["15m"],
        validate_default=True,
        description="Sliding windows to poll, in whole minutes from 1m to 30d. May be empty if counters is "
        "set.",
        examples=[["15m", "4h", "8h"]],
    )
    counters: Counters = Field(
        default=None,
        description="Also export counters since midnight of the `day`, or of the Monday of the `week`, for "
        "rate() and increase(). Midnight is that of timezone, by default UTC. Takes one more API request per "
        "channel and scrape. Default: no counters.",
    )
    timezone: TimeZone = Field(
        default=UTC_NAME,
        description="Time zone of the midnight at which the counters begin, as the IANA database names it. "
        "Days on which the clock is moved there have 23 or 25 hours. Requires counters.",
        examples=["Europe/Berlin"],
    )
    statistics: StatisticsNames = Field(
        default=["workers"],
        description="Statistics to poll: `workers` (reservations and Activities), `tasks` (what became of "
        "tasks and how long they waited) and `realtime` (the tasks and Workers of this moment).",
        examples=[["workers", "tasks", "realtime"]],
    )
    queues: Annotated[QueueNames | None, NotNull()] = Field(
        default=None,
        description="TaskQueues whose tasks and realtime statistics to poll as well, by friendly name or SID "
        "(WQ…). `auto` discovers all TaskQueues of the workspace. Requires tasks or realtime in statistics. "
        "Default: none.",
        examples=[["Support", "Sales"]],
    )
    include_queues: Annotated[list[NamePattern] | None, NotNull()] = Field(
        default=None,
        min_length=1,
        description="With queues: auto, only poll TaskQueues whose friendly name matches one of these "
        "patterns, as in include. Default: all TaskQueues.",
        examples=[["Support *"]],
    )
    exclude_queues: Annotated[list[NamePattern] | None, NotNull()] = Field(
        default=None,
        min_length=1,
        description="With queues: auto, do not poll TaskQueues whose friendly name matches one of these "
        "patterns. Takes precedence over include_queues. Default: none.",
        examples=[["*-test"]],
    )
    workflows: Annotated[WorkflowNames | None, NotNull()] = Field(
        default=None,
        description="Workflows whose tasks and realtime statistics to poll as well, by friendly name or SID "
        "(WW…). `auto` discovers all Workflows of the workspace. Requires tasks or realtime in statistics. "
        "Default: none.",
        examples=[["Assign to anyone"]],
    )
    include_workflows: Annotated[list[NamePattern] | None, NotNull()] = Field(
        default=None,
        min_length=1,
        description="With workflows: auto, only poll Workflows whose friendly name matches one of these "
        "patterns, as in include. Default: all Workflows.",
        examples=[["Assign *"]],
    )
    exclude_workflows: Annotated[list[NamePattern] | None, NotNull()] = Field(
        default=None,
        min_length=1,
        description="With workflows: auto, do not poll Workflows whose friendly name matches one of these "
        "patterns. Takes precedence over include_workflows. Default: none.",
        examples=[["*-test"]],
    )
    service_levels: Annotated[list[ServiceLevel] | None, NotNull()] = Field(
        default=None,
        min_length=1,
        description="Also split the tasks of each window by whether they waited less or more than these "
        "times, in whole seconds from 1s to 1d. Requires tasks in statistics. Default: no split.",
        examples=[["20s", "1m"]],
    )


SELECTION_KEYS: Final = tuple(SelectionModel.model_fields)


class _CredentialsModel(_StrictModel):
    """Twilio credentials, the API host they belong to, and whether to discover workspaces with them."""

    username: Username = Field(
        description="Account SID (AC…) or API key SID (SK…). An API key is valid in one region only.",
        examples=["SK0123456789abcdef0123456789abcdef"],
    )
    password: Annotated[Secret | None, NotNull()] = Field(
        default=None,
        description="Auth token of the account, or secret of the API key. Mutually exclusive with "
        "password_file; one of them is required.",
    )
    password_file: Annotated[FileName | None, NotNull()] = Field(
        default=None,
        description="File that contains the password. A relative path is relative to the configuration file. "
        "The file is reread when it changes, so credentials can be rotated without a restart. A newline at "
        "the end and a UTF-8 byte order mark are ignored.",
        examples=["auth_token"],
    )
    edge: Annotated[Edge | None, NotNull()] = Field(
        default=None,
        description="Edge location through which to reach the region. Requires region. Default: "
        + ", ".join(f"{edge} for {region}" for region, edge in EDGES.items())
        + ".",
        examples=["dublin"],
    )
    region: Annotated[Region | None, NotNull()] = Field(
        default=None,
        description="Twilio region of the workspaces. By default, the exporter uses taskrouter.twilio.com, "
        "which is us1.",
        examples=["ie1"],
    )
    base_url: Annotated[BaseUrl | None, NotNull()] = Field(
        default=None,
        description="Base URL of the API, such as that of a proxy or simulator. Mutually exclusive with "
        "region and edge. http:// is only allowed for loopback addresses, because it sends the credentials "
        "unencrypted.",
        examples=["https://taskrouter.twilio.com", "http://127.0.0.1:8080"],
    )
    workspaces: Annotated[Annotated[Literal["auto"], Allowed(AUTO)] | None, NotNull()] = Field(
        default=None,
        description="`auto` discovers all workspaces of the account and polls them in addition to those in "
        "targets. The list is refreshed every discovery.interval. Invalid entries of the list are skipped "
        "and logged. channels and the keys after it say what to poll in each of them. Default: only the "
        "workspaces in targets.",
    )
    include: Annotated[list[NamePattern] | None, NotNull()] = Field(
        default=None,
        min_length=1,
        description="With workspaces: auto, only poll workspaces whose friendly name matches one of these "
        "patterns: * matches any text, ? one character, [ab] one of the characters in brackets. Patterns are "
        "case-sensitive. Default: all workspaces.",
        examples=[["support-*", "sales"]],
    )
    exclude: Annotated[list[NamePattern] | None, NotNull()] = Field(
        default=None,
        min_length=1,
        description="With workspaces: auto, do not poll workspaces whose friendly name matches one of these "
        "patterns. Takes precedence over include. Default: none.",
        examples=[["*-test"]],
    )

    @field_validator("region")
    @classmethod
    def _require_edge_of_unknown_region(cls, region: str, others: ValidationInfo) -> str:
        if region not in EDGES and others.data.get("edge", "invalid") is None:
            raise PydanticCustomError(
                "sentence",
                "unknown region; set edge as well (regions with a known edge: {regions})",
                {"regions": ", ".join(EDGES)},
            )
        return region


class AccountModel(SelectionModel, _CredentialsModel):
    """Twilio credentials and the API host they belong to."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["password"]}, {"required": ["password_file"]}],
            "dependentRequired": {
                "edge": ["region"],
                **{key: ["workspaces"] for key in ("include", "exclude", *SELECTION_KEYS)},
                "timezone": ["workspaces", "counters"],
            },
            "dependentSchemas": {"base_url": {"properties": {"region": False, "edge": False}}},
        }
    )


class PollingModel(_StrictModel):
    """How the exporter polls the API."""

    concurrency: Annotated[int, Field(ge=1, le=1000), Allowed("an integer from 1 to 1000")] = Field(
        default=Polling.concurrency,
        description="Maximum number of concurrent API requests, over all accounts. 1 to 1000.",
    )
    attempts: Annotated[int, Field(ge=1, le=10), Allowed("an integer from 1 to 10")] = Field(
        default=Polling.attempts,
        description="Maximum number of HTTP requests per query, including the first one. 1 to 10.",
    )
    request_timeout: RequestTimeout = Field(
        default=Polling.request_timeout,
        description="Timeout of one attempt, from connecting to the last byte of the response. 100ms to 5m.",
        json_schema_extra={"default": _format(Polling.request_timeout)},
    )
    cache: CacheTime = Field(
        default=Polling.cache,
        description="How long to reuse a successful response instead of asking the API again. Responses are "
        "never reused for longer, nor after a failed poll. 0s to 1h.",
        json_schema_extra={"default": _format(Polling.cache)},
    )


class DiscoveryModel(_StrictModel):
    """How the exporter discovers workspaces and TaskChannels."""

    interval: DiscoveryInterval = Field(
        default=DISCOVERY_SECONDS,
        description="How often to refresh the lists of workspaces and TaskChannels. 10s to 1d.",
        json_schema_extra={"default": _format(DISCOVERY_SECONDS)},
    )


class _WorkspaceModel(_StrictModel):
    """A workspace that is polled."""

    workspace: WorkspaceSid = Field(
        description="Workspace SID (WS…).", examples=["WS0123456789abcdef0123456789abcdef"]
    )
    name: Annotated[Name | None, NotNull()] = Field(
        default=None,
        description="Value of the label `workspace`, up to 200 characters. Default: the workspace SID.",
        examples=["support"],
    )
    account: Name = Field(
        default=DEFAULT_ACCOUNT,
        description="Name of the account that has access to the workspace.",
    )

    @property
    def label(self) -> str:
        """The value of the label `workspace`."""
        return self.name or self.workspace


class TargetModel(SelectionModel, _WorkspaceModel):
    """A workspace and what to poll in it."""

    model_config = ConfigDict(json_schema_extra={"dependentRequired": {"timezone": ["counters"]}})


class FileModel(_StrictModel):
    """Configuration of the Twilio TaskRouter exporter."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["targets"], "properties": {"targets": {"minItems": 1}}},
                # At least one account has `workspaces`: not every account lacks it.
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
        description="Twilio credentials, by account name. If omitted, there is one account, `default`, with "
        "the credentials from the environment: TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or TWILIO_API_KEY "
        "and TWILIO_API_SECRET, and optionally TWILIO_REGION and TWILIO_EDGE.",
    )
    polling: PollingModel = Field(default_factory=PollingModel, description="How the exporter polls the API.")
    discovery: DiscoveryModel = Field(
        default_factory=DiscoveryModel,
        description="How the exporter discovers workspaces and TaskChannels, for `auto`.",
    )
    targets: list[TargetModel] = Field(
        default=[],
        description="Workspaces to poll. Optional if an account has workspaces: auto.",
    )
