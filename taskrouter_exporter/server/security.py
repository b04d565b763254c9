"""The web configuration, applied to requests: TLS, basic authentication, headers and rate limit."""

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
from taskrouter_exporter.server.web_config import RequestLimit, WebConfig, WebConfigError, load_web_config

log = structlog.get_logger()

_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="taskrouter-exporter", charset="UTF-8"'}


class WebSecurity:
    """Applies a web configuration file, and reloads it when it changes.

    The stamps of the file and of the certificates that it names are compared on every request and every TLS
    handshake. While a changed file is invalid, the previous configuration is kept, and the certificates that
    the invalid one names are compared: they may be written after it.

    Args:
        path: The file.

    Raises:
        ConfigError: the file is invalid.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: tuple[Path, ...] = (path,)
        self._seen: tuple[Stamp, ...] | None = None
        self._config = self._load()
        self._auth = BasicAuth()
        self._bucket = TokenBucket(self._config.rate_limit)
        self._context = self._config.context
        self.tls = ReloadingContext.of(self._current_context) if self._context else None
        """The context for listening; None for plain HTTP."""
        log.info("TLS is enabled" if self.tls else "TLS is disabled", http2=False, web_config=str(path))

    def protect(self, app: ASGIApp) -> ASGIApp:
        """Return an app that refuses unauthorized requests. No path is exempt, as in exporter-toolkit."""

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
        login = Login.from_header(header)
        client = scope.get("client") or ("", 0)
        try:
            if login and await self._auth.accepts(config.users, login, client[0]):
                return None
        except TooManyAttemptsError:
            return PlainTextResponse("Too many authentication attempts.\n", 503, {"Retry-After": "1"})
        return PlainTextResponse("Unauthorized\n", 401, _CHALLENGE)

    def _current_context(self) -> ssl.SSLContext:
        self._current()
        if self._context is None:
            raise RuntimeError("TLS was not enabled at startup")
        return self._context

    def _current(self) -> WebConfig:
        """Return the current configuration, reloaded if a file has changed."""
        if stamps(self._files) != self._seen:
            self._reload()
        return self._config

    def _load(self) -> WebConfig:
        """Load the file, and again while a stamp changes, so that no change in between is missed.

        Raises:
            ConfigError: the file is invalid.
        """
        while True:
            self._seen = stamps(self._files)
            try:
                loaded: WebConfig | ConfigError = load_web_config(self._path)
            except ConfigError as error:
                loaded = error
            named = loaded.files if isinstance(loaded, WebConfig | WebConfigError) else ()
            self._files = (self._path, *named)
            if stamps(self._files) == self._seen:
                break
        if isinstance(loaded, ConfigError):
            raise loaded
        return loaded

    def _reload(self) -> None:
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
    """The tokens of a rate limit.

    Args:
        limit: None for no limit.
    """

    def __init__(self, limit: RequestLimit | None) -> None:
        self._limit = limit
        self._tokens = float(limit.burst) if limit else 0.0
        self._filled = time.monotonic()

    def take(self) -> bool:
        """Take a token, and return whether there was one."""
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
    """Return a `send` that adds the configured headers to a response, except those that it has."""
    if not config.headers:
        return send

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            names = {name.lower() for name, _ in headers}
            configured = [(name.lower().encode(), value.encode()) for name, value in config.headers]
            message = {
                **message,
                "headers": [*headers, *(pair for pair in configured if pair[0] not in names)],
            }
        await send(message)

    return add
