"""This exporter beside what people would use instead, in interleaved rounds against one API.

`make compare` prints the tables of docs/performance.md, and writes them and the plot there. The ideal is the
API's latency for each round of requests, and nothing else.
"""

import argparse
import math
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import requests
import trustme
from contestants import Contestant, Size, running_contestants
from plot import busy_plot
from scrape import API_SECONDS, ROOT
from slow_api import TRAFFIC_PATH, start_api

_SIZES: Final = (Size(200, 20), Size(1000, 64), Size(5000, 128))
_PLOTTED: Final = _SIZES[1]
_BEGIN: Final = "<!-- begin: make compare -->"
_END: Final = "<!-- end: make compare -->"
_OURS: Final = "this exporter"
_PAGE: Final = ROOT / "docs" / "performance.md"
_PLOT: Final = ROOT / "docs" / "images" / "busy-connections.svg"


@dataclass
class Measured:
    """What was seen of one contestant in all rounds.

    Attributes:
        first: Seconds of the first round, in which it connects.
        walls: Seconds of each other round.
        cpu: CPU seconds of those.
        peak: Largest resident memory, in MB.
        traffic: What the API saw of the last round.
        connections: Opened in all rounds.
    """

    first: float = 0.0
    walls: list[float] = field(default_factory=list)
    cpu: float = 0.0
    peak: float = 0.0
    traffic: dict[str, Any] = field(default_factory=dict)
    connections: int = 0


def measure(
    size: Size, rounds: int, json_exporter: Path | None, authority: trustme.CA | None
) -> dict[str, Measured]:
    """Let each contestant poll once, then the next, and so on for all rounds."""
    with tempfile.TemporaryDirectory() as name:
        certificate = authorities = None
        if authority:
            certificate, authorities = Path(name, "api.pem"), Path(name, "ca.pem")
            issued = authority.issue_cert("127.0.0.1")
            issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
            authority.cert_pem.write_to_path(str(authorities))
        api, process = start_api(API_SECONDS, certificate)
        session = requests.Session()
        session.trust_env, session.verify = False, str(authorities) if authorities else True
        with running_contestants(api, size, authorities, json_exporter) as contestants:
            measured = {each: Measured() for each in contestants}
            session.get(api + TRAFFIC_PATH, timeout=5)
            for number in range(rounds + 1):
                for each, contestant in contestants.items():
                    _round(contestant, measured[each], first=number == 0)
                    traffic = session.get(api + TRAFFIC_PATH, timeout=5).json()
                    measured[each].traffic = traffic
                    measured[each].connections += traffic["connections"]
                    if traffic["requests"] != size.queries:
                        raise RuntimeError(f"{each}: {traffic['requests']} requests")
        process.terminate()
        return measured


def _round(contestant: Contestant, measured: Measured, *, first: bool) -> None:
    cpu, begin = contestant.cpu(), time.perf_counter()
    contestant.round()
    wall = time.perf_counter() - begin
    measured.peak = contestant.peak()
    if first:
        measured.first = wall
    else:
        measured.walls.append(wall)
        measured.cpu += contestant.cpu() - cpu


def table(size: Size, measured: dict[str, Measured], protocol: str) -> str:
    """Return the table of one size as Markdown."""
    ideal = math.ceil(size.queries / size.concurrency) * API_SECONDS
    lines = [
        f"{size.queries:,} queries, {size.concurrency} at a time, over {protocol}: ideal {ideal:.1f} s",
        "",
        "| | wall / ideal | first / later | CPU per query | peak memory | connections | bytes in per query |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, each in measured.items():
        walls = statistics.median(each.walls)
        cells = (
            f"{walls / ideal:.3f}",
            f"{each.first / walls:.2f}",
            f"{each.cpu / len(each.walls) / size.queries * 1000:.2f} ms",
            f"{each.peak:.0f} MB",
            f"{each.connections}",
            f"{each.traffic['sent'] / size.queries:.0f}",
        )
        shown = f"**{name}**" if name == _OURS else name
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write the page where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="the smallest size only, one round")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--json-exporter", type=Path, metavar="PATH", help="the program json_exporter")
    parser.add_argument("--write", action="store_true", help="write the tables and the plot into docs/")
    flags = parser.parse_args()
    sizes, rounds = (_SIZES[:1], 1) if flags.short else (_SIZES, flags.rounds)
    if flags.json_exporter is None:
        print("json_exporter is missing: its program was not given by --json-exporter PATH\n")
    tables = []
    for authority, of_protocol in ((None, sizes), (trustme.CA(), sizes[:2])):
        for size in of_protocol:
            measured = measure(size, rounds, flags.json_exporter, authority)
            tables.append(table(size, measured, "TLS" if authority else "plain HTTP"))
            print(tables[-1], flush=True, end="\n\n")
            if size == _PLOTTED and not authority:
                busy = measured[_OURS].traffic["busy"]
    if flags.write:
        _write(tables, busy)


def _write(tables: list[str], busy: list[tuple[float, int]]) -> None:
    """Write the tables and the plot into the documentation."""
    text = _PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    written = "\n\n".join([begin, *tables, end])
    _PAGE.write_text(before + written + after, encoding="utf-8")
    _PLOT.write_text(busy_plot(busy, _PLOTTED.concurrency), encoding="utf-8")


if __name__ == "__main__":
    main()
