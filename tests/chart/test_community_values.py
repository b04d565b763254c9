"""Values that the community charts have in common, with the effect that they have there."""

from typing import Any

import pytest
from support.chart import DEMO, TARGETS, Object, Objects, Values, refusal, render

MONITORING = ("serviceMonitor", "scrapeConfig", "podMonitoring", "prometheusRule")
KINDS = {
    "serviceMonitor": "ServiceMonitor",
    "scrapeConfig": "ScrapeConfig",
    "podMonitoring": "PodMonitoring",
    "prometheusRule": "PrometheusRule",
}


def _deployment(**values: Any) -> Any:
    return render({**DEMO, **values}).one("Deployment")


def _spec(**values: Any) -> Any:
    return _deployment(**values)["spec"]


def _images(values: Values) -> set[str]:
    objects = render({**DEMO, **values})
    (test,) = objects.one("Pod")["spec"]["containers"]
    return {objects.container["image"], test["image"]}


@pytest.mark.parametrize(
    ("repository", "registry", "global_registry", "reference"),
    [
        ("exporter", "", "", "exporter"),
        ("exporter", "registry.example.com", "", "registry.example.com/exporter"),
        ("team/exporter", "registry.example.com", "", "registry.example.com/team/exporter"),
        ("ghcr.io/team/exporter", "registry.example.com", "", "registry.example.com/team/exporter"),
        ("ghcr.io/team/exporter", "", "registry:5000/mirror/", "registry:5000/mirror/team/exporter"),
        ("localhost/exporter", "registry.example.com", "", "registry.example.com/exporter"),
        ("registry:5000/exporter", "registry.example.com", "", "registry.example.com/exporter"),
        ("team/exporter", "first.example.com", "second.example.com", "second.example.com/team/exporter"),
    ],
)
def test_a_registry_replaces_that_of_the_image(
    repository: str, registry: str, global_registry: str, reference: str
) -> None:
    image = {"repository": repository, "registry": registry, "tag": "1"}
    values = {"image": image, "global": {"imageRegistry": global_registry}}
    assert _images(values) == {f"{reference}:1"}


def test_global_image_pull_secrets_are_used_in_addition_by_every_pod() -> None:
    values = {
        "global": {"imagePullSecrets": ["mirror", {"name": "shared"}]},
        "imagePullSecrets": [{"name": "shared"}, "own"],
    }
    objects = render({**DEMO, **values})
    expected = [{"name": "mirror"}, {"name": "shared"}, {"name": "own"}]
    assert objects.pod["imagePullSecrets"] == expected
    assert objects.one("Pod")["spec"]["imagePullSecrets"] == expected
    assert "imagePullSecrets" not in render(DEMO).pod


def test_globals_of_a_parent_chart_may_be_null_or_unknown() -> None:
    objects = render(
        {**DEMO, "global": {"imageRegistry": None, "imagePullSecrets": None, "storageClass": "fast"}}
    )
    assert "imagePullSecrets" not in objects.pod


@pytest.mark.parametrize("name", MONITORING)
def test_labels_and_additional_labels_are_merged(name: str) -> None:
    def labels(**values: Any) -> Any:
        objects = render({**TARGETS, name: {"enabled": True, **values}})
        return objects.one(KINDS[name])["metadata"]["labels"]

    own = {"release": "prometheus", "tier": ""}
    additional = {"team": "voice", "tier": ""}
    assert own.items() | additional.items() <= labels(labels=own, additionalLabels=additional).items()
    assert labels(labels=own) == labels(additionalLabels=own)


@pytest.mark.parametrize("name", MONITORING)
@pytest.mark.parametrize("label", ["prometheus", ""])
def test_labels_that_differ_are_refused(name: str, label: str) -> None:
    values = {"enabled": True, "labels": {"release": label}, "additionalLabels": {"release": "other"}}
    message = refusal({**TARGETS, name: values})
    assert f"{name}.labels and {name}.additionalLabels differ in release: remove one of them" in message
    assert "\n" not in message.strip()


@pytest.mark.parametrize(
    ("values", "replicas"),
    [
        ({}, 1),
        ({"replicas": 3}, 3),
        ({"replicaCount": 2}, 2),
        ({"replicas": 2, "replicaCount": 2}, 2),
        ({"replicas": 0}, 0),
        ({"replicaCount": 0}, 0),
    ],
)
def test_replicas_and_replica_count_mean_the_same(values: Values, replicas: int) -> None:
    assert _spec(**values)["replicas"] == replicas


@pytest.mark.parametrize("autoscaling", [False, True])
def test_replicas_that_differ_are_refused(*, autoscaling: bool) -> None:
    values = {"replicas": 0, "replicaCount": 2, "autoscaling": {"enabled": autoscaling}}
    assert "replicas and replicaCount differ: remove one of them" in refusal({**DEMO, **values})


def test_notes_warn_of_replicas_under_either_name() -> None:
    assert "WARNING: each replica" in render({**TARGETS, "replicas": 2}).notes
    assert "WARNING" not in render({**TARGETS, "replicas": 1}).notes


def test_extra_objects_and_extra_manifests_are_created() -> None:
    def extra(name: str) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{{{{ .Release.Name }}}}-{name}"},
        }

    objects = render({**DEMO, "extraObjects": [extra("a")], "extraManifests": [extra("b")]})
    assert [each["metadata"]["name"] for each in objects.find("ConfigMap")] == [
        "taskrouter-a",
        "taskrouter-b",
    ]


def test_lists_and_labels_may_be_null() -> None:
    lists = ("extraObjects", "extraManifests", "imagePullSecrets", "extraContainers", "initContainers")
    labels = ("commonLabels", "podLabels", "podAnnotations", "deploymentAnnotations")
    monitor = {"enabled": True, "labels": None, "additionalLabels": None}
    nulls = {**dict.fromkeys((*lists, *labels)), "service": {"labels": None}, "serviceMonitor": monitor}
    plain = {**DEMO, "serviceMonitor": {"enabled": True}}
    assert list(render({**DEMO, **nulls})) == list(render(plain))


def test_every_object_is_in_the_overriding_namespace() -> None:
    on = {"enabled": True}
    names = ("serviceMonitor", "scrapeConfig", "podMonitoring", "prometheusRule", "grafanaDashboards")
    others = ("networkPolicy", "podDisruptionBudget", "autoscaling", "web")
    values: dict[str, Any] = {
        **TARGETS,
        **dict.fromkeys((*names, *others), on),
        "web": {"config": {"rate_limit": {"interval": "1s", "burst": 1}}},
        "credentials": {"files": {"auth_token": "a"}},
        "ingress": {**on, "hosts": [{"host": "a"}]},
        "httpRoute": {**on, "parentRefs": [{"name": "a"}]},
    }
    vertical = {**TARGETS, "verticalPodAutoscaler": on}
    for each in (*_in_namespace(values), *_in_namespace(vertical)):
        assert each["metadata"]["namespace"] == "elsewhere", each["kind"]
    objects = _in_namespace(values)
    (discovery,) = objects.one("ScrapeConfig")["spec"]["httpSDConfigs"]
    assert discovery["url"].startswith("http://taskrouter-taskrouter-exporter.elsewhere.svc:")
    (relabelling,) = objects.one("ScrapeConfig")["spec"]["relabelings"]
    assert relabelling == {"targetLabel": "namespace", "replacement": "elsewhere"}
    (test,) = objects.one("Pod")["spec"]["containers"]
    assert "taskrouter-taskrouter-exporter.elsewhere.svc" in test["command"][-1]
    groups = objects.one("PrometheusRule")["spec"]["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert {alert["labels"]["namespace"] for alert in alerts} == {"elsewhere"}
    assert "monitoring" not in objects.notes.replace("--namespace monitoring", "", 1)


def _in_namespace(values: Values) -> Objects:
    return render({**values, "namespaceOverride": "elsewhere"})


def test_a_service_monitor_can_be_in_another_namespace() -> None:
    def monitor(namespace: str) -> Object:
        values = {"enabled": True, "namespace": namespace}
        return render({**TARGETS, "serviceMonitor": values}).one("ServiceMonitor")

    elsewhere = monitor("prometheus")
    assert elsewhere["metadata"]["namespace"] == "prometheus"
    assert elsewhere["spec"]["namespaceSelector"] == {"matchNames": ["monitoring"]}
    assert "namespaceSelector" not in monitor("")["spec"]
    assert monitor("monitoring") == monitor("")


def test_service_and_deployment_have_their_own_labels_and_annotations() -> None:
    objects = render({**DEMO, "service": {"labels": {"a": "b"}}, "deploymentAnnotations": {"c": "d"}})
    assert objects.one("Service")["metadata"]["labels"]["a"] == "b"
    assert "a" not in objects.one("Deployment")["metadata"]["labels"]
    assert objects.one("Deployment")["metadata"]["annotations"] == {"c": "d"}
    assert "annotations" not in _deployment()["metadata"]


def test_the_deployment_has_strategy_and_history() -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "50%"}}
    assert (
        _spec(strategy=strategy, revisionHistoryLimit=0).items()
        >= {
            "strategy": strategy,
            "revisionHistoryLimit": 0,
        }.items()
    )
    assert _spec().keys().isdisjoint({"strategy", "revisionHistoryLimit"})


def test_the_pod_has_sidecars_init_containers_and_name_resolution() -> None:
    values: dict[str, Any] = {
        "extraContainers": [{"name": "proxy", "image": "proxy:1"}],
        "initContainers": [{"name": "wait", "image": "wait:1", "command": ["sleep", "1"]}],
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["proxy.example.com"]}],
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["192.0.2.53"], "options": [{"name": "ndots", "value": "2"}]},
    }
    for base in (DEMO, TARGETS):
        pod = render({**base, **values}).pod
        assert [container["name"] for container in pod["containers"]] == ["exporter", "proxy"]
        assert pod["containers"][1:] == values["extraContainers"]
        for key in values.keys() - {"extraContainers"}:
            assert pod[key] == values[key]
        assert render(base).pod.keys().isdisjoint(values)


def _probe(name: str, **values: Any) -> Any:
    return render({**DEMO, **values}).container.get(name)


@pytest.mark.parametrize("name", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_settings_of_a_probe_keep_the_handler_and_a_handler_replaces_it(name: str) -> None:
    own = _probe(name)
    assert "httpGet" in own
    settings = {"timeoutSeconds": 9, "initialDelaySeconds": 0}
    assert _probe(name, **{name: settings}) == {**own, **settings}
    handler = {"tcpSocket": {"port": "http"}}
    kept = {key: value for key, value in own.items() if key != "httpGet"}
    assert _probe(name, **{name: handler}) == {**kept, **handler}
    assert _probe(name, **{name: None}) is None
    others = {"startupProbe", "livenessProbe", "readinessProbe"} - {name}
    assert all(_probe(other, **{name: None}) for other in others)


def test_an_exporter_has_a_minute_to_start_by_default() -> None:
    startup = _probe("startupProbe")
    assert startup["periodSeconds"] * startup["failureThreshold"] == 60
    longer = _probe("startupProbe", startupProbe={"failureThreshold": 90})
    assert longer == {**startup, "failureThreshold": 90}


def test_a_handler_replaces_the_command_of_the_health_check() -> None:
    web = {"config": {"rate_limit": {"interval": "1s", "burst": 1}}}
    handler = {"exec": {"command": ["true"]}}
    assert _probe("livenessProbe", web=web, livenessProbe=handler)["exec"] == handler["exec"]


def _budget(**values: Any) -> Any:
    budget = render({**DEMO, "podDisruptionBudget": {"enabled": True, **values}}).one("PodDisruptionBudget")
    return {key: value for key, value in budget["spec"].items() if key != "selector"}


def test_a_disruption_budget_has_one_limit() -> None:
    assert _budget() == {"maxUnavailable": 1}
    assert _budget(maxUnavailable=0) == {"maxUnavailable": 0}
    assert _budget(maxUnavailable="50%") == {"maxUnavailable": "50%"}
    assert _budget(minAvailable=0) == {"minAvailable": 0}
    assert _budget(minAvailable="50%") == {"minAvailable": "50%"}
    both = {"enabled": True, "minAvailable": 1, "maxUnavailable": 1}
    assert "mutually exclusive" in refusal({**DEMO, "podDisruptionBudget": both})


def test_a_vertical_autoscaler_controls_the_exporters_container() -> None:
    values = {
        "enabled": True,
        "recommenders": [{"name": "a"}],
        "controlledResources": ["memory"],
        "controlledValues": "RequestsOnly",
        "minAllowed": {"memory": "64Mi"},
        "maxAllowed": {"cpu": 1},
        "updatePolicy": {"updateMode": "Off"},
    }
    objects = render({**DEMO, "verticalPodAutoscaler": values})
    spec = objects.one("VerticalPodAutoscaler")["spec"]
    names = {"enabled", "recommenders", "updatePolicy"}
    policy = {key: value for key, value in values.items() if key not in names}
    assert spec == {
        "targetRef": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": objects.one("Deployment")["metadata"]["name"],
        },
        "recommenders": values["recommenders"],
        "updatePolicy": values["updatePolicy"],
        "resourcePolicy": {"containerPolicies": [{"containerName": "exporter", **policy}]},
    }
    plain = render({**DEMO, "verticalPodAutoscaler": {"enabled": True}}).one("VerticalPodAutoscaler")["spec"]
    assert plain["resourcePolicy"] == {"containerPolicies": [{"containerName": "exporter"}]}
    assert plain.keys() == {"targetRef", "resourcePolicy"}


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({}, True),
        ({"controlledResources": ["cpu", "memory"]}, True),
        ({"controlledResources": ["memory"]}, False),
        ({"updatePolicy": {"updateMode": "Off"}}, False),
    ],
)
def test_two_autoscalers_must_not_act_on_the_cpu(values: Values, *, refused: bool) -> None:
    both = {**DEMO, "autoscaling": {"enabled": True}, "verticalPodAutoscaler": {"enabled": True, **values}}
    if refused:
        assert "would both act on the CPU: set verticalPodAutoscaler" in refusal(both)
    else:
        assert render(both).find("VerticalPodAutoscaler")


def test_a_runbook_url_replaces_the_base_of_every_alert() -> None:
    def urls(**values: str) -> list[str]:
        rule = render({**TARGETS, "prometheusRule": {"enabled": True, **values}}).one("PrometheusRule")
        rules = [rule for group in rule["spec"]["groups"] for rule in group["rules"]]
        return [rule["annotations"]["runbook_url"] for rule in rules if "alert" in rule]

    anchors = [url.partition("#")[2] for url in urls()]
    assert all(anchors)
    base = "https://runbooks.example.com/$1"
    assert urls(runbookUrl=f"{base}/") == [f"{base}#{anchor}" for anchor in anchors]
