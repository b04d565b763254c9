"""What 10 to 5,000 targets cost the exporter, and Prometheus if it is in the PATH.

`make scale` prints the table of docs/scaling.md.
"""

import json
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import requests
from contestants import Size
from scrape import API_SECONDS, PROMETHEUS, Exporter, peak_memory, running_exporter, workers_of
from slow_api import start_api

_SIZES: Final = (Size(8, 16), Size(200, 16), Size(1000, 64), Size(5000, 128))
_SCRAPES: Final = 4
_INTERVAL_SECONDS: Final = 15


@dataclass(frozen=True)
class Scale:
    """The costs of one scrape.

    Attributes:
        samples: In the exposition.
        sent: Bytes of the compressed exposition.
        seconds: It takes.
        cpu: CPU seconds of the exporter.
        memory: The exporter's largest resident memory, in MB.
        prometheus_cpu: CPU seconds of Prometheus.
        prometheus_memory: Its largest resident memory, in MB.
    """

    samples: int
    sent: int
    seconds: float
    cpu: float
    memory: float
    prometheus_cpu: float | None
    prometheus_memory: float | None

    @property
    def cells(self) -> list[str]:
        """The costs as text, in the order of the table."""
        of_prometheus = (
            ["", ""]
            if self.prometheus_cpu is None
            else [f"{self.prometheus_cpu:.2f} s", f"{self.prometheus_memory:.0f} MB"]
        )
        return [
            f"{self.samples:,}",
            f"{self.sent / 1000:,.0f} kB",
            f"{self.seconds:.2f} s",
            f"{self.cpu:.2f} s",
            f"{self.memory:.0f} MB",
            *of_prometheus,
        ]


_ROWS: Final = (
    "samples per scrape",
    "bytes per scrape, compressed",
    "duration of a scrape",
    "CPU time of a scrape",
    "largest resident memory",
    "CPU time of Prometheus for a scrape",
    "largest resident memory of Prometheus",
)


def measure(size: Size) -> Scale:
    """Measure scrapes of one size, by Prometheus if there is one."""
    api, process = start_api(API_SECONDS)
    with running_exporter(api, workers_of(size.queries), size.concurrency) as exporter:
        url = f"http://127.0.0.1:{exporter.port}/metrics"
        text = requests.get(url, headers={**PROMETHEUS, "Accept-Encoding": "identity"}, timeout=60).text
        compressed = requests.get(url, headers=PROMETHEUS, timeout=60, stream=True)
        sent = len(compressed.raw.read(decode_content=False))
        cpu = exporter.cpu()
        seconds = sum(exporter.scrape() for _ in range(_SCRAPES)) / _SCRAPES
        cpu = (exporter.cpu() - cpu) / _SCRAPES
        of_prometheus = _prometheus(exporter)
        memory = exporter.peak()
    process.terminate()
    samples = sum(not line.startswith("#") for line in text.splitlines())
    return Scale(samples, sent, seconds, cpu, memory, *of_prometheus)


def _prometheus(exporter: Exporter) -> tuple[float | None, float | None]:
    """Let Prometheus scrape the exporter for a while; return its CPU seconds per scrape and its memory."""
    program = shutil.which("prometheus")
    if program is None:
        return None, None
    with tempfile.TemporaryDirectory() as name:
        interval = f"{_INTERVAL_SECONDS}s"
        targets = [{"targets": [f"127.0.0.1:{exporter.port}"]}]
        job = {
            "job_name": "taskrouter",
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "static_configs": targets,
        }
        config = Path(name, "prometheus.yml")
        config.write_text(json.dumps({"scrape_configs": [job]}), encoding="utf-8")
        command = [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={name}/data",
            "--web.listen-address=127.0.0.1:0",
            "--log.level=error",
        ]
        with subprocess.Popen(command) as process:
            time.sleep(_SCRAPES * _INTERVAL_SECONDS)
            times = psutil.Process(process.pid).cpu_times()
            memory = peak_memory(process.pid)
            process.terminate()
    return (times.user + times.system) / _SCRAPES, memory


def main() -> None:
    """Print the table."""
    measured = [measure(size) for size in _SIZES]
    names = [f"{size.queries:,}, {size.concurrency} at a time" for size in _SIZES]
    print(f"| targets | {' | '.join(names)} |")
    print(f"|---|{'--:|' * len(names)}")
    for row, cells in zip(_ROWS, zip(*(each.cells for each in measured), strict=True), strict=True):
        print(f"| {row} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
