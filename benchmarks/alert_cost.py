"""Measure what an evaluation of the rules costs in a real Prometheus with a week of recordings.

Prints the seconds of each group. `python benchmarks/alert_cost.py 32 1000`
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml
from support.blocks import Blocks
from support.prometheus import Prometheus

ROOT: Final = Path(__file__).parent.parent
RULES: Final = ROOT / "monitoring" / "rules" / "taskrouter.yaml"
_OUTCOMES: Final = ("accepted", "rejected", "timed_out", "canceled", "rescinded")
_WEEK: Final = 7 * 24 * 3600


def samples(channels: int, now: int) -> Iterator[str]:
    """Yield scrapes of the last 70 minutes, and a week of what rules sum up.

    None is newer than now, as Prometheus then refuses what the rules record.
    """
    for number in range(channels):
        labels = f'workspace="w{number // 10}",channel="c{number}"'
        stamp = f'job="taskrouter",instance="exporter",{labels}'
        series = {
            f'twilio_taskrouter_window_reservations{{{stamp},window="15m"}}': 100,
            f'twilio_taskrouter_window_end_timestamp_seconds{{{stamp},window="15m"}}': now,
            f'twilio_taskrouter_up{{{stamp},window="15m"}}': 1,
        }
        for outcome in _OUTCOMES:
            part = f'{stamp},window="15m",outcome="{outcome}"'
            series[f"twilio_taskrouter_window_reservation_outcomes{{{part}}}"] = 20
        for name, value in series.items():
            yield from (f"{name} {value} {at}\n" for at in range(now - 4200, now, 60))
        counters = [f"twilio_taskrouter_reservations_total{{{stamp}}}"]
        counters += [
            f'twilio_taskrouter_reservation_outcomes_total{{{stamp},outcome="{outcome}"}}'
            for outcome in _OUTCOMES
        ]
        for name in counters:
            yield from (f"{name} {10 * index} {now - 4200 + 60 * index}\n" for index in range(70))
        for ratio in ("rejected", "timed_out"):
            for kind in ("numerator", "denominator"):
                name = f'taskrouter:ratio:{kind}_quarter{{{labels},ratio="{ratio}"}}'
                yield from (f"{name} 50 {at}\n" for at in range(now - _WEEK, now, 900))


def measure(channels: int, directory: Path) -> dict[str, float]:
    """Return the seconds of the last evaluation of each group."""
    prometheus, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if not prometheus or not promtool:
        raise FileNotFoundError("prometheus and promtool are needed (Debian's package prometheus)")
    blocks = Blocks(prometheus, promtool, directory / "blocks", longest="168h")
    file = directory / "scrapes.txt"
    with file.open("w", encoding="utf-8") as output:
        output.writelines(samples(channels, int(time.time())))
        output.write("# EOF\n")
    blocks.add_scrapes(file)
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for group in rules["groups"]:
        group["interval"] = "10s"
    copy = directory / "rules.yaml"
    copy.write_text(yaml.safe_dump(rules), encoding="utf-8")
    server = Prometheus(prometheus, {"rule_files": [str(copy)]}, directory / "server", blocks.data)
    try:
        time.sleep(60)
        bounds = server.query("count(taskrouter:ratio:lower_bound)")
        # Rejected, timed out and accepted, over 15 minutes and over an hour.
        if list(bounds.values()) != [6 * channels]:
            raise AssertionError(f"the rules record too little: {bounds}")
        groups = server.api("rules")["groups"]
        return {group["name"]: float(group["evaluationTime"]) for group in groups}
    finally:
        server.stop()


def main() -> None:
    """Print a table with a row for each number of channels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("channels", type=int, nargs="+")
    for channels in parser.parse_args().channels:
        with tempfile.TemporaryDirectory() as name:
            seconds = measure(channels, Path(name))
        print(channels, {group: round(value, 3) for group, value in seconds.items()}, flush=True)


if __name__ == "__main__":
    main()
