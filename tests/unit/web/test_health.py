from types import SimpleNamespace
from typing import Any

import pytest
from support.serving import Serving

from taskrouter_exporter.web.health import health_app


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
def test_the_health_address_has_the_health_endpoints(ready: bool, status: int) -> None:  # noqa: FBT001 -- a parameter of the test
    runtime: Any = SimpleNamespace(ready=ready)
    with Serving(health_app(runtime)) as serving:
        assert serving.request("/-/healthy").status == 200
        assert serving.request("/-/healthy", "HEAD").body == b""
        assert serving.request("/-/ready").status == status


def test_the_health_address_has_nothing_else() -> None:
    runtime: Any = SimpleNamespace(ready=True)
    with Serving(health_app(runtime)) as serving:
        for path in ("/", "/metrics", "/probe", "/sd", "/config", "/-/reload", "/-/healthy/"):
            for method in ("GET", "POST"):
                answer = serving.request(path, method)
                assert answer.status == 404
                assert answer.text == "404 page not found. Only /-/healthy and /-/ready are served here.\n"
