"""The picture of a rejection spike: the graph of the real Prometheus, as Chromium shows it.

`make picture` takes it again. It needs the Debian packages prometheus, chromium and chromium-driver.
"""

import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from support.blocks import Blocks
from support.browser import Browser
from support.exporter import ROOT
from support.prometheus import Prometheus
from support.spike import END, fill_with_spike

FILE: Final = ROOT / "docs" / "images" / "rejection-spike.png"
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


def main() -> None:
    """Take the picture."""
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
            finally:
                browser.close()


if __name__ == "__main__":
    main()
