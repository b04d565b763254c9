"""How long the largest configuration keeps an exporter from answering anything else, seen from outside.

One client asks for `/-/healthy` again and again, while another one lets the exporter do what takes long. What
the first one waits is at least the longest pause of the event loop.
"""

import argparse
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import requests
from scrape import Row, running_exporter
from slow_api import start_api

_CHANNELS: Final = 15
"""The most TaskChannels that a workspace can have, and 5,000 workspaces are the most of an account."""


class Patience:
    """The longest time that `/-/healthy` took, while the block ran."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self.longest = 0.0

    @contextmanager
    def watching(self) -> Iterator["Patience"]:
        """Watch during the block."""
        self.longest = 0.0
        self._stop.clear()
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _watch(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._stop.is_set():
            begin = time.perf_counter()
            connection.request("GET", "/-/healthy")
            connection.getresponse().read()
            self.longest = max(self.longest, time.perf_counter() - begin)
            self._stop.wait(0.001)
        connection.close()


def measure(workspaces: int) -> Iterator[Row]:
    """Measure the pauses of so many workspaces with 15 TaskChannels each."""
    queries = workspaces * _CHANNELS
    channels = [f"channel-{number}" for number in range(_CHANNELS)]
    targets: list[dict[str, object]] = [
        {"workspace": f"WS{number:032x}", "name": f"w{number}", "channels": channels}
        for number in range(workspaces)
    ]
    api, process = start_api(0.02)
    with running_exporter(api, targets, 64) as exporter:
        url = f"http://127.0.0.1:{exporter.port}"
        patience = Patience(exporter.port)
        actions: dict[str, Callable[[], object]] = {
            "/sd": lambda: requests.get(f"{url}/sd", timeout=120).content,
            "/": lambda: requests.get(url, timeout=120).content,
            "/probe": lambda: (
                requests.get(
                    f"{url}/probe", params={"workspace": "w7", "channel": "channel-3"}, timeout=120
                ).content
            ),
            "reload": lambda: requests.post(f"{url}/-/reload", timeout=120).raise_for_status(),
        }
        yield Row(f"{queries} queries: start to /-/ready", exporter.started_in, None, "s")
        for name, act in actions.items():
            with patience.watching():
                begin = time.perf_counter()
                act()
                took = time.perf_counter() - begin
            yield Row(f"{queries} queries: {name}", took, None, "s")
            yield Row(
                f"{queries} queries: longest wait of others during {name}", patience.longest * 1000, 50, "ms"
            )
        yield Row(f"{queries} queries: largest resident memory", exporter.peak(), None, "MB")
    process.terminate()


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspaces", type=int, default=5000, help="(default: %(default)s)")
    flags = parser.parse_args()
    for row in measure(flags.workspaces):
        print(row, flush=True)


if __name__ == "__main__":
    main()
