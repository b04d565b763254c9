"""What the web configuration file asks for, done: TLS, passwords, headers, rate limit."""

import ssl
import time
from pathlib import Path
from typing import Final

import structlog
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskrouter_exporter.config.errors import ConfigError
from taskrouter_exporter.files import Stamp, stamps
from taskrouter_exporter.server.basic_auth import BasicAuth, Login, TooManyAttemptsError
from taskrouter_exporter.server.tls import ReloadingContext
from taskrouter_exporter.server.web_config import RequestLimit, WebConfig, load_web_config

log = structlog.get_logger()

_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="taskrouter-exporter", charset="UTF-8"'}


class WebSecurity:
    """Guards the exporter as its web configuration file says.

    The file and the certificates that it names are looked at on every request and every TLS handshake, and
    read again when they have changed. What cannot be used leaves the last good configuration in force.

    Args:
        path: The file.

    Raises:
        ConfigError: it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[Stamp, ...] = ()
        self._config = self._load()
        self._auth = BasicAuth()
        self._bucket = TokenBucket(self._config.rate_limit)
        self._context = self._config.context
        self.tls = ReloadingContext.of(self._current_context) if self._context else None
        """The context to listen with; None for plain HTTP."""
        log.info("TLS is enabled" if self.tls else "TLS is disabled", http2=False, web_config=str(path))

    def protect(self, app: ASGIApp) -> ASGIApp:
        """Serve the app to those who may come in. No path is left out, as in the exporter-toolkit."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            config = self._current()
            send = _with_headers(config, send)
            refusal = await self._refusal(config, scope)
            await (refusal or app)(scope, receive, send)

        return answer

    async def _refusal(self, config: WebConfig, scope: Scope) -> ASGIApp | None:
        if not self._bucket.take():
            return PlainTextResponse("Too many requests.\n", 429, {"Retry-After": "1"})
        if not config.users:
            return None
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        credentials = Login.from_header(header)
        client = scope.get("client") or ("", 0)
        try:
            if credentials and await self._auth.accepts(config.users, credentials, client[0]):
                return None
        except TooManyAttemptsError:
            return PlainTextResponse("Too many attempts to log in.\n", 503, {"Retry-After": "1"})
        return PlainTextResponse("A user name and password are needed.\n", 401, _CHALLENGE)

    def _current_context(self) -> ssl.SSLContext:
        self._current()
        if self._context is None:
            raise RuntimeError("TLS is asked for, and was never on")
        return self._context

    def _current(self) -> WebConfig:
        """The configuration in force, read again if a file has changed."""
        seen = stamps((self._path, *self._config.files))
        if seen != self._seen:
            self._seen = seen
            self._read_again()
        return self._config

    def _load(self) -> WebConfig:
        """Load the file, once more if it names other files than before, so that no change is missed."""
        config = load_web_config(self._path)
        while (seen := stamps((self._path, *config.files))) != self._seen:
            self._seen = seen
            config = load_web_config(self._path)
        return config

    def _read_again(self) -> None:
        try:
            config = self._load()
        except ConfigError as error:
            log.warning(
                "invalid web configuration; keeping the previous one",
                web_config=str(self._path),
                error="; ".join(error.problems),
            )
            return
        if bool(config.context) != bool(self.tls):
            log.warning(
                "TLS cannot be enabled or disabled without a restart; the other changes apply",
                web_config=str(self._path),
                tls="enabled" if self.tls else "disabled",
            )
        elif config.context is not None:
            self._context = config.context
        if config.rate_limit != self._config.rate_limit:
            self._bucket = TokenBucket(config.rate_limit)
        self._config = config
        log.info("web configuration reloaded", web_config=str(self._path))


class TokenBucket:
    """A rate limit at work.

    Args:
        limit: None lets everything through.
    """

    def __init__(self, limit: RequestLimit | None) -> None:
        self._limit = limit
        self._tokens = float(limit.burst) if limit else 0.0
        self._filled = time.monotonic()

    def take(self) -> bool:
        """Whether one more request may come in now."""
        if self._limit is None:
            return True
        now = time.monotonic()
        earned = (now - self._filled) / self._limit.interval
        self._tokens = min(self._tokens + earned, self._limit.burst)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _with_headers(config: WebConfig, send: Send) -> Send:
    """Add the configured headers to an answer, except those that it has itself."""
    if not config.headers:
        return send

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message.get("headers", ()))
            names = {name.lower() for name, _ in own}
            more = [(name.lower().encode(), value.encode()) for name, value in config.headers]
            message = {**message, "headers": [*own, *(pair for pair in more if pair[0] not in names)]}
        await send(message)

    return add
