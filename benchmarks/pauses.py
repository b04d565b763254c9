"""How long the largest account keeps an exporter from answering anything else, seen from outside.

One client asks for `/-/healthy` again and again, while another one lets the exporter do what takes long. What
the first one waits is at least the longest pause of the event loop. `make pauses` prints it.
"""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import requests
from scrape import Row, running_exporter
from slow_api import CHANNELS, WORKSPACES, start_api

_QUERIES: Final = WORKSPACES * CHANNELS
_API_SECONDS: Final = 0.02
_REFRESHES_SECONDS: Final = 60
"""Long enough for a refresh of every list that changes nothing."""

_MOST_MS: Final = 50


class Watch:
    """Asks for `/-/healthy`, and knows the longest time that it took."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self.longest = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch during the block."""
        self.longest = 0.0
        self._stop.clear()
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
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


def measure() -> Iterator[Row]:
    """Measure the pauses with every TaskChannel of 5,000 discovered workspaces."""
    api, process = start_api(_API_SECONDS)
    discovered = {"workspaces": "auto", "channels": ["auto"], "windows": ["15m"]}
    with running_exporter(api, [], 64, discovered=discovered) as exporter:
        url = f"http://127.0.0.1:{exporter.port}"
        probe = {"workspace": "workspace 7", "channel": "channel-3"}
        found = len(requests.get(f"{url}/sd", timeout=120).json())
        if found != _QUERIES:
            raise RuntimeError(f"{found} targets")
        watch = Watch(exporter.port)
        actions: dict[str, Callable[[], object]] = {
            "/sd": lambda: requests.get(f"{url}/sd", timeout=120).content,
            "/": lambda: requests.get(url, timeout=120).content,
            "/probe": lambda: requests.get(f"{url}/probe", params=probe, timeout=120).content,
            "a reload": lambda: requests.post(f"{url}/-/reload", timeout=120).raise_for_status(),
            "the discovery": lambda: time.sleep(_REFRESHES_SECONDS),
        }
        yield Row(f"{_QUERIES} queries: start until all are discovered", exporter.started_in, None, "s")
        for name, act in actions.items():
            with watch.watching():
                begin = time.perf_counter()
                act()
                took = time.perf_counter() - begin
            yield Row(f"{_QUERIES} queries: {name}", took, None, "s")
            yield Row(
                f"{_QUERIES} queries: longest pause during {name}", watch.longest * 1000, _MOST_MS, "ms"
            )
        yield Row(f"{_QUERIES} queries: largest resident memory", exporter.peak(), None, "MB")
    process.terminate()


if __name__ == "__main__":
    for row in measure():
        print(row, flush=True)
