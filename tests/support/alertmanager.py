"""The real Alertmanager, its alerts, and a webhook that receives its notifications."""

import http.client
import http.server
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.programs import Program

Alert = dict[str, Any]


class Alertmanager(Program):
    """Debian's `prometheus-alertmanager` on a free port of loopback, without peers.

    Args:
        program: Its path.
        config: Its configuration.
        directory: A new one, for what it writes.
    """

    def __init__(self, program: str, config: Mapping[str, Any], directory: Path) -> None:
        directory.mkdir()
        (directory / "alertmanager.yml").write_text(json.dumps(config), encoding="utf-8")
        super().__init__(
            [
                program,
                f"--config.file={directory / 'alertmanager.yml'}",
                f"--storage.path={directory / 'data'}",
                "--web.listen-address=127.0.0.1:0",
                "--cluster.listen-address=",
            ],
            directory,
        )

    def add(self, *labels: Mapping[str, str]) -> None:
        """Send alerts that start now."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            body = json.dumps([{"labels": each} for each in labels])
            connection.request("POST", "/api/v2/alerts", body, {"Content-Type": "application/json"})
            assert connection.getresponse().status == 200
        finally:
            connection.close()

    def alerts(self) -> list[Alert]:
        """Return the alerts of Alertmanager, with the alerts that inhibit them."""
        status, body = self.get("/api/v2/alerts")
        assert status == 200, body
        alerts: list[Alert] = json.loads(body)
        return alerts


class Webhook:
    """A receiver of Alertmanager's notifications."""

    def __init__(self) -> None:
        notifications: list[dict[str, Any]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                notifications.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Discard the access log."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.notifications = notifications
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def alerts(self, status: str) -> list[Alert]:
        """Return every notified alert with this status, in the order of arrival."""
        return [
            alert
            for notification in list(self.notifications)
            for alert in notification["alerts"]
            if alert["status"] == status
        ]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
