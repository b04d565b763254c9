"""Schemas of custom resources that no package has models of: HTTPRoute, VerticalPodAutoscaler, PodMonitoring.

They contain the fields that the chart and its values can set, after version v1 of the CRDs of the Gateway API
(standard channel), the Vertical Pod Autoscaler and Google's prometheus-engine. Unknown fields are errors.
"""

from functools import cache
from typing import Any, Final

import jsonschema

Schema = dict[str, Any]


def _object(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


def _list(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


def _string(pattern: str = "", **limits: int) -> Schema:
    return {"type": "string", **({"pattern": pattern} if pattern else {}), **limits}


def _one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def _resource(api_version: str, kind: str, spec: Schema) -> Schema:
    labels = {"type": "object", "additionalProperties": _string()}
    metadata = _object(
        ("name", "namespace"), name=_string(), namespace=_string(), labels=labels, annotations=labels
    )
    return _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": api_version},
        kind={"const": kind},
        metadata=metadata,
        spec=spec,
    )


_TEXT: Final = _string()
_LABELS: Final[Schema] = {"type": "object", "additionalProperties": _string(maxLength=63)}
_DNS: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_SECTION: Final = _string(f"^{_DNS}$", minLength=1, maxLength=253)
_PORT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 65535}
_GATEWAY_DURATION: Final = _string(r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")
_HEADERS: Final = _list(_object(("name", "value"), name=_TEXT, value=_TEXT), maxItems=16)
_MODIFIER: Final = _object(add=_HEADERS, set=_HEADERS, remove=_list(_TEXT, maxItems=16))
_MATCHED: Final = _list(
    _object(("name", "value"), name=_TEXT, type=_one_of("Exact", "RegularExpression"), value=_TEXT),
    maxItems=16,
)
_REWRITTEN_PATH: Final = _object(
    ("type",),
    type=_one_of("ReplaceFullPath", "ReplacePrefixMatch"),
    replaceFullPath=_TEXT,
    replacePrefixMatch=_TEXT,
)
_FILTER: Final = _object(
    ("type",),
    type=_one_of(
        "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "ExtensionRef"
    ),
    requestHeaderModifier=_MODIFIER,
    responseHeaderModifier=_MODIFIER,
    requestRedirect=_object(
        scheme=_one_of("http", "https"),
        hostname=_TEXT,
        path=_REWRITTEN_PATH,
        port=_PORT,
        statusCode={"enum": [301, 302, 303, 307, 308]},
    ),
    urlRewrite=_object(hostname=_TEXT, path=_REWRITTEN_PATH),
    extensionRef=_object(("group", "kind", "name"), group=_TEXT, kind=_TEXT, name=_TEXT),
)
_MATCH: Final = _object(
    path=_object(type=_one_of("Exact", "PathPrefix", "RegularExpression"), value=_string(maxLength=1024)),
    headers=_MATCHED,
    queryParams=_MATCHED,
    method=_one_of("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"),
)
_HTTP_ROUTE: Final = _object(
    parentRefs=_list(
        _object(
            ("name",),
            group=_TEXT,
            kind=_TEXT,
            namespace=_string(f"^{_DNS}$"),
            name=_string(minLength=1, maxLength=253),
            sectionName=_SECTION,
            port=_PORT,
        ),
        maxItems=32,
    ),
    hostnames=_list(_string(rf"^(\*\.)?{_DNS}$", minLength=1, maxLength=253), maxItems=16),
    rules=_list(
        _object(
            name=_SECTION,
            matches=_list(_MATCH, maxItems=64),
            filters=_list(_FILTER, maxItems=16),
            backendRefs=_list(
                _object(("name",), name=_string(minLength=1, maxLength=253), port=_PORT), maxItems=16
            ),
            timeouts=_object(request=_GATEWAY_DURATION, backendRequest=_GATEWAY_DURATION),
        ),
        minItems=1,
        maxItems=16,
    ),
)

_QUANTITY: Final[Schema] = {
    "type": ["integer", "string"],
    "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?[0-9]+))?$",
}
_QUANTITIES: Final[Schema] = {"type": "object", "additionalProperties": _QUANTITY}
_VERTICAL_POD_AUTOSCALER: Final = _object(
    ("targetRef",),
    targetRef=_object(("kind", "name"), apiVersion=_TEXT, kind=_TEXT, name=_TEXT),
    recommenders=_list(_object(("name",), name=_TEXT)),
    resourcePolicy=_object(
        containerPolicies=_list(
            _object(
                containerName=_TEXT,
                controlledResources=_list(_TEXT),
                controlledValues=_one_of("RequestsAndLimits", "RequestsOnly"),
                maxAllowed=_QUANTITIES,
                minAllowed=_QUANTITIES,
                mode=_one_of("Auto", "Off"),
            )
        )
    ),
    updatePolicy=_object(
        updateMode=_one_of("Off", "Initial", "Recreate", "InPlaceOrRecreate", "InPlace", "Auto"),
        minReplicas={"type": "integer"},
        evictionRequirements=_list(
            _object(
                ("changeRequirement", "resources"),
                changeRequirement=_one_of("TargetHigherThanRequests", "TargetLowerThanRequests"),
                resources=_list(_TEXT),
            )
        ),
    ),
)

_PROMETHEUS_DURATION: Final = _string(r"^([0-9]+(ms|s|m|h|d|w|y))+$")
_SECRET: Final = _object(secret=_object(("key", "name"), key=_TEXT, name=_TEXT))
_TLS_VERSION: Final = _one_of("TLS10", "TLS11", "TLS12", "TLS13")
_POD_MONITORING: Final = _object(
    ("endpoints", "selector"),
    selector=_object(matchLabels=_LABELS),
    endpoints=_list(
        _object(
            ("interval", "port"),
            port={"type": ["integer", "string"]},
            path=_TEXT,
            scheme=_one_of("http", "https"),
            interval=_PROMETHEUS_DURATION,
            timeout=_PROMETHEUS_DURATION,
            basicAuth=_object(username=_TEXT, password=_SECRET),
            tls=_object(
                ca=_SECRET,
                cert=_SECRET,
                key=_SECRET,
                insecureSkipVerify={"type": "boolean"},
                serverName=_TEXT,
                minVersion=_TLS_VERSION,
                maxVersion=_TLS_VERSION,
            ),
            metricRelabeling=_list(
                _object(
                    action=_one_of(
                        "replace",
                        "lowercase",
                        "uppercase",
                        "keep",
                        "drop",
                        "keepequal",
                        "dropequal",
                        "hashmod",
                        "labeldrop",
                        "labelkeep",
                    ),
                    modulus={"type": "integer"},
                    regex=_string(maxLength=10000),
                    replacement=_TEXT,
                    separator=_TEXT,
                    sourceLabels=_list(_string(r"^[a-zA-Z_][a-zA-Z0-9_]*$"), maxItems=100),
                    targetLabel=_string(r"^[a-zA-Z_][a-zA-Z0-9_]*$"),
                ),
                maxItems=250,
            ),
        ),
        minItems=1,
        maxItems=10,
    ),
)

SCHEMAS: Final[dict[str, Schema]] = {
    "HTTPRoute": _resource("gateway.networking.k8s.io/v1", "HTTPRoute", _HTTP_ROUTE),
    "VerticalPodAutoscaler": _resource(
        "autoscaling.k8s.io/v1", "VerticalPodAutoscaler", _VERTICAL_POD_AUTOSCALER
    ),
    "PodMonitoring": _resource("monitoring.googleapis.com/v1", "PodMonitoring", _POD_MONITORING),
}


@cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    """Return the validator of a kind."""
    return jsonschema.Draft202012Validator(SCHEMAS[kind])
