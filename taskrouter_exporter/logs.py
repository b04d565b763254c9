"""Log lines on standard error, as logfmt or JSON, of the exporter and of its libraries."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import structlog

LEVELS: Final = ("debug", "info", "warn", "error")
FORMATS: Final = ("logfmt", "json")
_FIRST_KEYS: Final = ("ts", "level", "msg")


def set_up_logging(level: str, log_format: Literal["logfmt", "json"]) -> None:
    """Write messages of `level` or above to standard error.

    A line that cannot be written, to a full disk for example, is dropped.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _drop_absent,
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("msg"),
    ]
    renderer: structlog.typing.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.processors.LogfmtRenderer()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _put_first,
                renderer,
            ],
        )
    )
    logging.raiseExceptions = False
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # At "info" the libraries repeat what the exporter logs, and at "debug" they log every system call.
    for library in ("uvicorn", "asyncio"):
        logging.getLogger(library).setLevel(max(logging.getLogger().level, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _drop_absent(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: value for key, value in event.items() if value is not None}


def _put_first(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Begin each line with the same keys, so that people can read a column of them."""
    return {**{key: event[key] for key in _FIRST_KEYS if key in event}, **event}
