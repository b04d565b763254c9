"""Access from outside the cluster and from Google's Prometheus, with the web configuration's settings."""

from typing import Any

import pytest
from support.chart import DEMO, TARGETS, Objects, Values, refusal, render

HASH = "$2b$04$abcdefghijklmnopqrstuuJ3DAcPXlXn1U3fPLv8ZBhzQ0PbA4Ory"
HOSTS = [{"host": "exporter.example.com"}]
INGRESS = {"ingress": {"enabled": True, "hosts": HOSTS}}
ROUTE = {"httpRoute": {"enabled": True, "parentRefs": [{"name": "internal"}]}}
TLS: dict[str, Any] = {"tlsSecret": "tls"}
PASSWORD: dict[str, Any] = {
    "config": {"basic_auth_users": {"prometheus": HASH}},
    "basicAuthSecret": "login",
}

outside = pytest.mark.parametrize("values", [INGRESS, ROUTE], ids=["ingress", "route"])


def test_an_ingress_leads_to_the_port_of_the_service() -> None:
    paths = [{"path": "/a", "pathType": "Exact"}, {}]
    tls = [{"hosts": ["b.example.com"], "secretName": "b"}]
    ingress = {
        "enabled": True,
        "className": "internal",
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
        "hosts": [*HOSTS, {"host": "b.example.com", "paths": paths}],
        "tls": tls,
    }
    objects = render({**DEMO, "ingress": ingress, "service": {"port": 9142}})
    service = objects.one("Service")
    (port,) = service["spec"]["ports"]
    backend = {"service": {"name": service["metadata"]["name"], "port": {"name": port["name"]}}}
    found = objects.one("Ingress")
    assert found["metadata"]["labels"]["a"] == "b"
    assert found["metadata"]["annotations"] == {"c": "d"}
    assert found["spec"] == {
        "ingressClassName": "internal",
        "rules": [
            {
                "host": "exporter.example.com",
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
            },
            {
                "host": "b.example.com",
                "http": {
                    "paths": [
                        {"path": "/a", "pathType": "Exact", "backend": backend},
                        {"path": "/", "pathType": "Prefix", "backend": backend},
                    ]
                },
            },
        ],
        "tls": tls,
    }


def test_a_route_leads_to_the_port_of_the_service() -> None:
    parents = [{"name": "internal", "namespace": "gateways"}]
    rule = {"matches": [{"path": {"type": "Exact", "value": "/metrics"}}], "timeouts": {"request": "60s"}}
    route = {
        "enabled": True,
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
        "parentRefs": parents,
        "hostnames": ["exporter.example.com"],
        "rules": [rule, {}],
    }
    objects = render({**DEMO, "httpRoute": route, "service": {"port": 9142}})
    backend = {"backendRefs": [{"name": objects.one("Service")["metadata"]["name"], "port": 9142}]}
    found = objects.one("HTTPRoute")
    assert found["metadata"]["labels"]["a"] == "b"
    assert found["metadata"]["annotations"] == {"c": "d"}
    assert found["spec"] == {
        "parentRefs": parents,
        "hostnames": ["exporter.example.com"],
        "rules": [{**rule, **backend}, backend],
    }


def test_a_route_matches_every_path_by_default() -> None:
    (rule,) = render({**DEMO, **ROUTE}).one("HTTPRoute")["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ingress": {"enabled": True}}, "ingress.enabled requires ingress.hosts"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.enabled requires httpRoute.parentRefs"),
        ({"ingress": {"hosts": [{"paths": []}]}}, "missing property 'host'"),
        ({"ingress": {"hosts": [{"host": "a", "paths": [{"path": "metrics"}]}]}}, "/paths/0/path"),
        ({"httpRoute": {"rules": [{"backendRefs": []}]}}, "'backendRefs' not allowed"),
        ({"httpRoute": {"rules": []}}, "/httpRoute/rules"),
    ],
)
def test_incomplete_access_is_refused(values: Values, message: str) -> None:
    assert message in refusal({**DEMO, **values})


@outside
def test_the_service_says_that_its_port_serves_https(values: Values) -> None:
    def protocol(**more: Any) -> Any:
        (port,) = render({**DEMO, **more}).one("Service")["spec"]["ports"]
        return port.get("appProtocol")

    assert protocol(**values, web=TLS) == "https"
    assert protocol(**values) is None
    assert protocol(web=TLS) is None


@outside
def test_notes_warn_of_access_without_authentication(values: Values) -> None:
    warning = "WARNING: the exporter does not authenticate its clients"
    clients = {"tls_server_config": {"client_ca_file": "ca.crt"}}
    assert warning in render({**TARGETS, **values}).notes
    assert warning in render({**TARGETS, **values, "web": TLS}).notes
    assert warning not in render({**TARGETS, **values, "web": PASSWORD}).notes
    assert warning not in render({**TARGETS, **values, "web": {**TLS, "config": clients}}).notes
    assert warning not in render(TARGETS).notes


@outside
def test_notes_say_that_the_backend_needs_tls(values: Values) -> None:
    line = "The exporter serves HTTPS"
    assert line in render({**TARGETS, **values, "web": TLS}).notes
    assert line not in render({**TARGETS, **values}).notes
    assert line not in render({**TARGETS, "web": TLS}).notes


def _pod_monitoring(web: Values, **values: Any) -> Objects:
    return render({**TARGETS, "web": web, "podMonitoring": {"enabled": True, **values}})


def _endpoint(objects: Objects) -> Any:
    (endpoint,) = objects.one("PodMonitoring")["spec"]["endpoints"]
    return endpoint


def test_a_pod_monitoring_scrapes_the_exporters_pods() -> None:
    relabelings = [{"action": "drop", "sourceLabels": ["activity"], "regex": "Offline"}]
    values: dict[str, Any] = {"interval": "2m", "scrapeTimeout": "45s", "metricRelabelings": relabelings}
    objects = _pod_monitoring({}, **values)
    selector = objects.one("PodMonitoring")["spec"]["selector"]
    assert selector == objects.one("Deployment")["spec"]["selector"]
    assert _endpoint(objects) == {
        "port": objects.container["ports"][0]["name"],
        "path": "/metrics",
        "scheme": "http",
        "interval": "2m",
        "timeout": "45s",
        "metricRelabeling": relabelings,
    }
    assert "The PodMonitoring taskrouter-taskrouter-exporter is created" in objects.notes


def test_a_pod_monitoring_uses_tls_and_the_password() -> None:
    endpoint = _endpoint(_pod_monitoring({**TLS, **PASSWORD}))
    assert endpoint["scheme"] == "https"
    assert endpoint["tls"] == {"insecureSkipVerify": True}
    secret = {"name": "login", "key": "password"}
    assert endpoint["basicAuth"] == {"username": "prometheus", "password": {"secret": secret}}
    verified = {"ca": {"secret": {"name": "ca", "key": "ca.crt"}}}
    assert _endpoint(_pod_monitoring({**TLS, **PASSWORD}, tlsConfig=verified))["tls"] == verified
    assert "without verifying" in _pod_monitoring({**TLS, **PASSWORD}).notes
    assert "without verifying" not in _pod_monitoring({**TLS, **PASSWORD}, tlsConfig=verified).notes


def test_a_pod_monitoring_needs_the_name_of_a_user_if_there_are_several() -> None:
    users = {"alice": HASH, "bob": HASH}
    web = {"config": {"basic_auth_users": users}, "basicAuthSecret": "login"}

    def values(**keys: str) -> Values:
        return {**TARGETS, "web": web, "podMonitoring": {"enabled": True, **keys}}

    assert _endpoint(render(values(username="bob")))["basicAuth"]["username"] == "bob"
    assert "podMonitoring.username is required" in refusal(values())
    one = {"config": {"basic_auth_users": {"alice": HASH}}, "basicAuthSecret": "login"}
    assert _endpoint(_pod_monitoring(one))["basicAuth"]["username"] == "alice"
    assert "requires web.config.basic_auth_users" in refusal(
        {**TARGETS, "web": {"basicAuthSecret": "login"}, "podMonitoring": {"enabled": True}}
    )
    assert "podMonitoring.username: eve is not in" in refusal(values(username="eve"))
