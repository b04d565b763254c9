"""Log lines on standard error, as logfmt or JSON, ours and the libraries' alike."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import structlog

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("logfmt", "json")


def set_up_logging(level: str, log_format: Literal["logfmt", "json"]) -> None:
    """Send every log line at `level` or above to standard error.

    A line that cannot be written, because the disk is full for example, is lost without further ado.
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
        renderer = structlog.processors.LogfmtRenderer(key_order=["ts", "level", "msg"], drop_missing=True)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.raiseExceptions = False
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # The libraries say at "info" what we say ourselves, and at "debug" what no operator asks for.
    # What urllib3 warns of, malformed headers with a traceback, is a failed poll or none.
    for library, least in (("uvicorn", "WARNING"), ("asyncio", "WARNING"), ("urllib3", "ERROR")):
        logging.getLogger(library).setLevel(max(logging.getLogger().level, logging.getLevelName(least)))
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
