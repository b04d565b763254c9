"""The pictures of a rejection spike in the demo, in Chromium: Prometheus's graph and the landing page.

`make picture` takes them again. It needs the Debian packages prometheus, chromium, chromium-driver, faketime.
"""

import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from support.blocks import Blocks
from support.browser import Browser
from support.exporter import ROOT, Exporter
from support.faked_clock import FakedClock
from support.prometheus import Prometheus
from support.spike import END, fill_with_spike

_IMAGES: Final = ROOT / "docs" / "images"
FILE: Final = _IMAGES / "rejection-spike.png"
LANDING_PAGE: Final = _IMAGES / "landing-page.png"
_LENGTH: Final = timedelta(minutes=40)
"""How long Prometheus has scraped the exporter on the landing page, once a minute."""
_PROGRAMS: Final = Path("/usr/bin")
"""Where Debian puts them."""
_EXPRESSION: Final = """
label_replace(
  max by (channel) (taskrouter:ratio:share{workspace="support", channel="voice", ratio="rejected",
  span="15m"}),
  "line", "share of the last 15 minutes", "", ""
)
or label_replace(
  max by (channel) (taskrouter:ratio:lower_bound{workspace="support", channel="voice", ratio="rejected",
  span="15m"}),
  "line", "lower bound", "", ""
)
or label_replace(
  max by (channel) (taskrouter:ratio:baseline{workspace="support", channel="voice", ratio="rejected"})
    * scalar(max(taskrouter:threshold{threshold="spike_multiple_15m"})),
  "line", "limit, a multiple of the baseline", "", ""
)
"""


def show(prometheus: Prometheus, browser: Browser, expression: str) -> None:
    """Open Prometheus's own graph of the last three hours, and wait until it is drawn."""
    end = f"{END:%Y-%m-%d %H:%M}"
    graph = {"g0.expr": expression, "g0.tab": "0", "g0.range_input": "3h", "g0.end_input": end}
    browser.show_as(945, 1100)
    browser.open(f"http://127.0.0.1:{prometheus.port}/graph?{urlencode(graph)}")
    patience = time.monotonic() + 20
    while not browser.run("return document.querySelector('.legend .line') !== null"):
        if time.monotonic() > patience:
            raise TimeoutError(browser.text)
        time.sleep(0.1)


def show_landing_page(browser: Browser, directory: Path) -> None:
    """Take the picture of the landing page after the first part of the demo's spike."""
    now = datetime.now(UTC)
    clock = FakedClock(now, str(_PROGRAMS / "faketime"), directory)
    demo = ["--demo", "--demo.scenario=rejection-spike"]
    exporter = Exporter(demo, directory / "exporter.log", clock.environment)
    try:
        for minute in range(int(_LENGTH / timedelta(minutes=1))):
            clock.set(now + timedelta(minutes=minute))
            exporter.scrape(60)
        browser.show_as(1320, 560)
        browser.open(f"http://127.0.0.1:{exporter.port}/")
        browser.screenshot(LANDING_PAGE)
    finally:
        exporter.stop()


def main() -> None:
    """Take the pictures."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        blocks = Blocks(str(_PROGRAMS / "prometheus"), str(_PROGRAMS / "promtool"), directory / "blocks")
        fill_with_spike(blocks, directory)
        with blocks.serve() as prometheus:
            chromium = (str(_PROGRAMS / "chromedriver"), str(_PROGRAMS / "chromium"))
            browser = Browser(*chromium, directory / "browser")
            try:
                show(prometheus, browser, _EXPRESSION.strip())
                browser.screenshot_of(".graph_container", FILE)
                show_landing_page(browser, directory)
            finally:
                browser.close()


if __name__ == "__main__":
    main()
