"""What a value changes, and what is refused in one clear line."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from support.chart import DEMO, TARGETS, Objects, Values, refusal, render

SECRET = "an-invented-secret-of-the-account"
ACCOUNT = TARGETS["config"]["accounts"]["default"]
HASH = "$2b$04$abcdefghijklmnopqrstuuJ3DAcPXlXn1U3fPLv8ZBhzQ0PbA4Ory"
WITH_PASSWORD = {"web": {"config": {"basic_auth_users": {"prometheus": HASH}}, "basicAuthSecret": "login"}}


def _accounts(**keys: object) -> Values:
    account = {**ACCOUNT, **keys}
    return {**TARGETS, "config": {**TARGETS["config"], "accounts": {"default": account}}}


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({}, "nothing to export: set config.targets .* or demo.enabled=true"),
        ({**TARGETS, "config": {"accounts": {"a": ACCOUNT}}}, "nothing to export"),
        ({**TARGETS, **DEMO}, "config and demo.enabled are mutually exclusive"),
        ({"config": {"targets": TARGETS["config"]["targets"]}}, "no credentials: set config.accounts"),
        (_accounts(password=SECRET), "config.accounts.default.password would be stored in a ConfigMap"),
        ({**TARGETS, "credentials": {}}, "config.accounts.default.password_file: auth_token does not exist"),
        (
            {**TARGETS, "credentials": {"files": {"authtoken": SECRET}}},
            "config.accounts.default.password_file: auth_token does not exist",
        ),
        (
            {**TARGETS, "web": {"basicAuthSecret": "login"}},
            "web.basicAuthSecret requires web.config.basic_auth_users",
        ),
        ({**DEMO, "backfill": {"enabled": True}}, "backfill.enabled and demo.enabled are mutually exclusive"),
        (
            {**TARGETS, "backfill": {"enabled": True}},
            "backfill.enabled requires backfill.remoteWriteUrl, or backfill.existingClaim",
        ),
    ],
)
def test_impossible_values_are_refused_with_advice(values: Values, line: str) -> None:
    message = refusal(values)
    assert re.search(line, message)
    assert "\n" not in message.strip()
    assert SECRET not in message


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({**TARGETS, "serviceMonitors": {}}, "serviceMonitors"),
        ({**TARGETS, "serviceMonitor": {"intervall": "60s"}}, "intervall"),
        ({**TARGETS, "serviceMonitor": {"interval": "1 minute"}}, "/serviceMonitor/interval"),
        ({**TARGETS, "replicaCount": "2"}, "/replicaCount"),
        ({**TARGETS, "log": {"level": "verbose"}}, "/log/level"),
        ({**TARGETS, "web": {"config": {"basic_auth_user": {}}}}, "basic_auth_user"),
        ({**TARGETS, "credentials": {"files": {"config.yaml": ""}}}, "'config.yaml'"),
        ({**TARGETS, "prometheusRule": {"thresholds": {"spike_shares": 1}}}, "spike_shares"),
        ({**TARGETS, "prometheusRule": {"thresholds": {"spike_share": 1}}}, "/spike_share"),
        (
            {**TARGETS, "prometheusRule": {"thresholds": {"spike_share": {"info": 1}}}},
            "'info' not allowed",
        ),
        ({"demo": {"enabled": True, "scenario": "storm"}}, "/demo/scenario"),
        ({**TARGETS, "config": {"target": []}}, "'target' not allowed"),
        (_accounts(edge="dublin"), "/config/accounts/default"),
        (_accounts(base_url="https://example.com", region="ie1"), "/config/accounts/default"),
        (_accounts(username="me"), "/config/accounts/default/username"),
        ({**TARGETS, "config": {**TARGETS["config"], "polling": {"cache": ""}}}, "/config/polling/cache"),
        ({**TARGETS, "config": {**TARGETS["config"], "polling": {"cache": "1 m"}}}, "/config/polling/cache"),
    ],
)
def test_a_typo_is_refused_by_the_schema(values: Values, place: str) -> None:
    message = refusal(values)
    assert "values don't meet the specifications of the schema" in message
    assert place in message


def test_the_schema_quotes_no_password_of_an_account() -> None:
    assert SECRET not in refusal(_accounts(password=f"{SECRET} with spaces", regoin="ie1"))


def test_a_parent_chart_can_disable_the_chart_and_set_globals() -> None:
    assert render({**TARGETS, "global": {"imageRegistry": "x"}, "enabled": True}).find("Deployment")


def test_a_changed_configuration_rolls_the_pods_and_a_secret_does_not() -> None:
    def annotations(values: Values) -> object:
        return render(values).one("Deployment")["spec"]["template"]

    def with_token(token: str) -> Values:
        return {**TARGETS, "credentials": {"files": {"auth_token": token}}}

    assert annotations(TARGETS) != annotations(_accounts(region="ie1"))
    assert annotations(with_token("a")) == annotations(with_token("b"))


def test_credentials_are_files_beside_the_configuration_and_not_by_sub_path() -> None:
    objects = render(TARGETS)
    (mount,) = objects.container["volumeMounts"]
    assert mount == {"name": "config", "mountPath": "/etc/taskrouter-exporter", "readOnly": True}
    files = objects.mounted("config", {"twilio": {"auth_token": "x"}})
    assert files.keys() == {"config.yaml", "auth_token"}
    assert yaml.safe_load(files["config.yaml"]) == TARGETS["config"]


def test_an_existing_secret_takes_precedence_over_files() -> None:
    objects = render({**TARGETS, "credentials": {"existingSecret": "twilio", "files": {"auth_token": "x"}}})
    assert not objects.find("Secret")


def test_secrets_are_in_secrets_only() -> None:
    objects = render({**TARGETS, **WITH_PASSWORD, "credentials": {"files": {"auth_token": SECRET}}})
    assert objects.mounted("config", {})["auth_token"] == SECRET
    assert HASH in objects.mounted("web-config", {"login": {"username": "", "password": ""}})["web.yml"]
    others = [text for path, text in objects.manifests.items() if not path.endswith("secret.yaml")]
    assert not [text for text in others if SECRET in text or HASH in text]
    assert "env" not in objects.container
    assert "envFrom" not in objects.container


def test_the_demo_needs_no_configuration() -> None:
    objects = render(DEMO)
    assert "volumes" not in objects.pod
    assert "--demo" in objects.container["args"]


def _endpoint(objects: Objects) -> Any:
    (endpoint,) = objects.one("ServiceMonitor")["spec"]["endpoints"]
    return endpoint


def _scrape_config(objects: Objects) -> Any:
    return objects.one("ScrapeConfig")["spec"]


@pytest.mark.parametrize(
    ("name", "monitored"), [("serviceMonitor", _endpoint), ("scrapeConfig", _scrape_config)]
)
def test_prometheus_scrapes_with_the_scheme_and_credentials_of_the_web_configuration(
    name: str, monitored: Callable[[Objects], Any]
) -> None:
    on: dict[str, Any] = {name: {"enabled": True}}
    plain = monitored(render({**TARGETS, **on}))
    assert plain.keys().isdisjoint({"tlsConfig", "basicAuth"})
    web = {**WITH_PASSWORD["web"], "tlsSecret": "tls"}
    asked = monitored(render({**TARGETS, **on, "web": web}))
    assert asked["tlsConfig"] == {"insecureSkipVerify": True}
    assert asked["basicAuth"] == {
        "username": {"name": "login", "key": "username"},
        "password": {"name": "login", "key": "password"},
    }
    verified = {"ca": {"secret": {"name": "ca", "key": "ca.crt"}}}
    on[name] = {"enabled": True, "tlsConfig": verified}
    assert monitored(render({**TARGETS, **on, "web": web}))["tlsConfig"] == verified


def test_a_service_monitor_names_port_scheme_and_times() -> None:
    values = {**TARGETS, "serviceMonitor": {"enabled": True, "interval": "2m", "scrapeTimeout": "45s"}}
    objects = render(values)
    assert _endpoint(objects) == {
        "port": objects.one("Service")["spec"]["ports"][0]["name"],
        "path": "/metrics",
        "scheme": "http",
        "interval": "2m",
        "scrapeTimeout": "45s",
    }


def test_service_discovery_uses_the_service_and_the_service_monitor_scrapes_the_exporters_own_metrics() -> (
    None
):
    on = {"enabled": True}
    objects = render(
        {
            **TARGETS,
            "scrapeConfig": on,
            "serviceMonitor": on,
            "service": {"port": 9142},
            "web": {"tlsSecret": "t"},
        }
    )
    (discovery,) = _scrape_config(objects)["httpSDConfigs"]
    service = objects.one("Service")["metadata"]["name"]
    assert discovery["url"] == f"https://{service}.monitoring.svc:9142/sd"
    assert discovery["tlsConfig"] == {"insecureSkipVerify": True}
    assert _endpoint(objects)["params"] == {"collect[]": ["exporter"]}
    assert _scrape_config(objects)["jobName"] == service


def test_autoscaling_controls_the_number_of_replicas() -> None:
    assert render(TARGETS).one("Deployment")["spec"]["replicas"] == 1
    scaled = render({**TARGETS, "autoscaling": {"enabled": True}})
    assert "replicas" not in scaled.one("Deployment")["spec"]
    assert (
        scaled.one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"]
        == (scaled.one("Deployment")["metadata"]["name"])
    )


def test_notes_warn_of_replicas_that_multiply_the_requests() -> None:
    monitored = {**TARGETS, "replicaCount": 2, "serviceMonitor": {"enabled": True}}
    assert "WARNING: each replica that is scraped" in render(monitored).notes
    assert "WARNING" not in render({**monitored, "replicaCount": 1}).notes
    assert "WARNING" not in render({**monitored, "scrapeConfig": {"enabled": True}}).notes


@pytest.mark.parametrize("values", [TARGETS, DEMO])
def test_notes_explain_the_next_steps(values: Values) -> None:
    notes = render(values).notes
    steps = ("helm test taskrouter", "port-forward service/taskrouter", "serviceMonitor.enabled=true")
    for step in (*steps, "taskrouter-taskrouter-exporter.monitoring.svc:10142"):
        assert step in notes


def test_notes_mention_a_password_that_prometheus_does_not_know() -> None:
    web = {"config": WITH_PASSWORD["web"]["config"]}
    assert "`web.basicAuthSecret` is not set" in render({**TARGETS, "web": web}).notes
    assert "basicAuthSecret" not in render({**TARGETS, **WITH_PASSWORD}).notes


def test_the_network_is_open_to_prometheus_the_test_dns_and_443() -> None:
    objects = render({**TARGETS, "networkPolicy": {"enabled": True}})
    policy = objects.one("NetworkPolicy")["spec"]
    (ingress,) = policy["ingress"]
    prometheus, test = ingress["from"]
    assert prometheus == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    wanted = test["podSelector"]["matchLabels"].items()
    assert wanted <= objects.one("Pod")["metadata"]["labels"].items()
    assert ingress["ports"] == [{"port": "http", "protocol": "TCP"}]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [(port["port"], port["protocol"]) for rule in policy["egress"] for port in rule["ports"]] == [
        (53, "UDP"),
        (53, "TCP"),
        (443, "TCP"),
    ]


def test_a_spread_constraint_keeps_its_own_selector() -> None:
    own = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    selector = {"matchLabels": {"a": "b"}}
    spread = render({**TARGETS, "topologySpreadConstraints": [own, {**own, "labelSelector": selector}]}).pod[
        "topologySpreadConstraints"
    ]
    selectors = [each["labelSelector"] for each in spread]
    assert selectors == [render(TARGETS).one("Deployment")["spec"]["selector"], selector]


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "registry/exporter:0.1.0"),
        ({"tag": "1.2.3"}, "registry/exporter:1.2.3"),
        ({"tag": "1.2.3", "digest": f"sha256:{'0' * 64}"}, f"registry/exporter@sha256:{'0' * 64}"),
    ],
)
def test_the_image_is_of_this_version_unless_a_tag_or_digest_says_otherwise(
    image: Values, reference: str
) -> None:
    objects = render({**TARGETS, "image": {"repository": "registry/exporter", **image}})
    assert objects.container["image"] == reference
    assert objects.one("Pod")["spec"]["containers"][0]["image"] == reference


def test_a_security_context_can_leave_the_user_to_openshift() -> None:
    ids = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"))
    context = render({**TARGETS, "podSecurityContext": ids}).pod["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_a_service_account_is_created_named_or_omitted() -> None:
    def account(**values: object) -> tuple[list[str], str]:
        objects = render({**TARGETS, "serviceAccount": values})
        names = [each["metadata"]["name"] for each in objects.find("ServiceAccount")]
        return names, objects.pod["serviceAccountName"]

    assert account() == (["taskrouter-taskrouter-exporter"], "taskrouter-taskrouter-exporter")
    assert account(name="mine") == (["mine"], "mine")
    assert account(create=False, name="theirs") == ([], "theirs")
    assert account(create=False) == ([], "default")
