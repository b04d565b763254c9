"""A loop of bare requests or urllib3 over the queries, as a script of an afternoon would poll them.

It runs in a process of its own: `python benchmarks/bare.py requests|urllib3 API QUERIES CONCURRENCY`, polls
once for each line of its input, and writes a line after it.
"""

import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_AUTH = ("AC" + "0" * 32, "bench")
_CHANNELS = ("all", "voice", "chat", "sms")


def _by_requests(api: str) -> Callable[[int], Any]:
    import requests  # noqa: PLC0415 -- each loop has the memory of its own library only

    sessions = threading.local()

    def get(number: int) -> object:
        if not hasattr(sessions, "own"):
            sessions.own = requests.Session()
            sessions.own.auth = _AUTH
        answer = sessions.own.get(api + _path(number), params=_parameters(number), timeout=5)
        answer.raise_for_status()
        return answer.json()

    return get


def _by_urllib3(api: str) -> Callable[[int], Any]:
    import urllib3  # noqa: PLC0415 -- as above

    pool = urllib3.PoolManager(maxsize=1000)
    headers = urllib3.make_headers(basic_auth=":".join(_AUTH))

    def get(number: int) -> object:
        answer = pool.request(
            "GET", api + _path(number), fields=_parameters(number), headers=headers, timeout=5, retries=False
        )
        return json.loads(answer.data)

    return get


def _path(number: int) -> str:
    return f"/v1/Workspaces/WS{number // len(_CHANNELS):032x}/Workers/CumulativeStatistics"


def _parameters(number: int) -> dict[str, str]:
    channel = _CHANNELS[number % len(_CHANNELS)]
    return {"Minutes": "15"} if channel == "all" else {"Minutes": "15", "TaskChannel": channel}


def main() -> None:
    """Poll once for each line of the input."""
    library, api, queries, concurrency = sys.argv[1:]
    get = {"requests": _by_requests, "urllib3": _by_urllib3}[library](api)
    with ThreadPoolExecutor(int(concurrency)) as threads:
        for _ in sys.stdin:
            for answer in threads.map(get, range(int(queries))):
                assert answer["reservations_created"] == 120  # noqa: S101 -- what slow_api answers
            print("done", flush=True)


if __name__ == "__main__":
    main()
