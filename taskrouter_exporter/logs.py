"""Log lines on standard error, as logfmt or JSON, of the exporter and of its libraries."""

import logging
import os
import queue
import threading
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Final, Literal

import structlog

LEVELS: Final = ("debug", "info", "warn", "error")
FORMATS: Final = ("logfmt", "json")
_STANDARD_ERROR: Final = 2
_MAX_WAITING_LINES: Final = 4096
_FLUSH_SECONDS: Final = 1.0
_FIRST_KEYS: Final = ("ts", "level", "msg")


def set_up_logging(level: str, log_format: Literal["logfmt", "json"]) -> None:
    """Write messages of `level` or above to standard error.

    A line that cannot be written, to a full disk for example, is dropped. Who logs never waits: a thread
    writes the lines.
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
    handler = _Writer(_STANDARD_ERROR)
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


def flush_logs() -> None:
    """Wait until what was logged is written, but no longer than a second."""
    for handler in logging.getLogger().handlers:
        handler.flush()


class _Writer(logging.Handler):
    """Writes lines to a file descriptor in a thread: a reader that stalls does not stop the exporter.

    While too many lines wait, further ones are dropped and counted; the count is logged after them.

    Args:
        descriptor: Used directly. At exit, Python aborts if a thread is blocked in its own `sys.stderr`.
        max_waiting: How many lines may wait.
    """

    def __init__(self, descriptor: int, max_waiting: int = _MAX_WAITING_LINES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._waiting: queue.Queue[str] = queue.Queue(max_waiting)
        self._dropped = 0
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        return _escape(super().format(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Let a record be written."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 -- as logging's own handlers do
            self.handleError(record)
            return
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            with self._counting:
                self._dropped += 1

    def flush(self) -> None:
        """Wait until all lines are written, but no longer than a second; at exit, logging calls this."""
        with self._waiting.all_tasks_done:
            self._waiting.all_tasks_done.wait_for(lambda: not self._waiting.unfinished_tasks, _FLUSH_SECONDS)

    def _write_all(self) -> None:
        while True:
            self._write(self._waiting.get())
            if self._dropped and self._waiting.empty():
                with self._counting:
                    dropped, self._dropped = self._dropped, 0
                record = logging.LogRecord(
                    __name__, logging.WARNING, "", 0, "log messages dropped", None, None
                )
                record.messages = dropped
                self._write(self.format(record))
            self._waiting.task_done()

    def _write(self, line: str) -> None:
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        with suppress(OSError):
            while data:
                data = data[os.write(self._descriptor, data) :]


def _escape(line: str) -> str:
    """Escape what would split a line, control a terminal or reverse the direction of the text."""
    if line.isprintable():
        return line
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in line
    )


def _drop_absent(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: value for key, value in event.items() if value is not None}


def _put_first(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Begin each line with the same keys, so that people can read a column of them."""
    return {**{key: event[key] for key in _FIRST_KEYS if key in event}, **event}
