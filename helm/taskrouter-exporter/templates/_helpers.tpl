{{- define "taskrouter-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 58 | trimSuffix "-" }}
{{- end }}

{{- define "taskrouter-exporter.fullname" -}}
{{- $name := include "taskrouter-exporter.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Namespace of the objects. */}}
{{- define "taskrouter-exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- /* Number of Pods. `replicas` and `replicaCount` mean the same. */}}
{{- define "taskrouter-exporter.replicas" -}}
{{- $replicas := .Values.replicas }}
{{- $replicaCount := .Values.replicaCount }}
{{- if kindIs "invalid" $replicas }}
{{- kindIs "invalid" $replicaCount | ternary 1 $replicaCount }}
{{- else if and (not (kindIs "invalid" $replicaCount)) (ne (int $replicas) (int $replicaCount)) }}
{{- fail "replicas and replicaCount differ: remove one of them" }}
{{- else }}
{{- $replicas }}
{{- end }}
{{- end }}

{{- /* `maxUnavailable` of the PodDisruptionBudget: a number or a percentage. */}}
{{- define "taskrouter-exporter.maxUnavailable" -}}
{{- $maxUnavailable := .Values.podDisruptionBudget.maxUnavailable }}
{{- kindIs "invalid" $maxUnavailable | ternary 1 $maxUnavailable | toYaml }}
{{- end }}

{{- define "taskrouter-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "taskrouter-exporter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "taskrouter-exporter.metaLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: taskrouter-exporter
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{- end }}

{{- /* Labels of an object. Argument: list of the context and the object's own labels. Selector labels take precedence. */}}
{{- define "taskrouter-exporter.labels" -}}
{{- $context := index . 0 }}
{{- $labels := merge (include "taskrouter-exporter.selectorLabels" $context | fromYaml)
      (include "taskrouter-exporter.metaLabels" $context | fromYaml) }}
{{- merge $labels (default dict (index . 1)) (default dict $context.Values.commonLabels) | toYaml }}
{{- end }}

{{- /* Labels of an object that a Prometheus selects: `labels` and `additionalLabels` of a value. Argument: list of the
       context and the value's name. */}}
{{- define "taskrouter-exporter.monitoringLabels" -}}
{{- $context := index . 0 }}
{{- $name := index . 1 }}
{{- $labels := default dict (get $context.Values $name).labels }}
{{- $additionalLabels := default dict (get $context.Values $name).additionalLabels }}
{{- range $label, $value := $additionalLabels }}
{{- if and (hasKey $labels $label) (ne $value (get $labels $label)) }}
{{- fail (printf "%s.labels and %s.additionalLabels differ in %s: remove one of them" $name $name $label) }}
{{- end }}
{{- end }}
{{- include "taskrouter-exporter.labels" (list $context (merge (dict) $labels $additionalLabels)) }}
{{- end }}

{{- /* Labels of the test Pod, which the Service must not select. */}}
{{- define "taskrouter-exporter.testLabels" -}}
app.kubernetes.io/name: {{ printf "%s-test" (include "taskrouter-exporter.name" .) | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* Labels of the backfill's Pod, which the Service must not select either. */}}
{{- define "taskrouter-exporter.backfillLabels" -}}
app.kubernetes.io/name: {{ printf "%s-backfill" (include "taskrouter-exporter.name" .) | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "taskrouter-exporter.serviceAccountName" -}}
{{- default (ternary (include "taskrouter-exporter.fullname" .) "default" .Values.serviceAccount.create)
      .Values.serviceAccount.name }}
{{- end }}

{{- /* Reference of the image. A registry replaces that of the repository, and the global one takes precedence. */}}
{{- define "taskrouter-exporter.image" -}}
{{- $image := .Values.image }}
{{- $repository := $image.repository }}
{{- with default $image.registry (.Values.global).imageRegistry }}
{{- $path := regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $repository "" }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $path }}
{{- end }}
{{- $repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{- /* Image pull secrets, the global ones first. Empty if there are none. */}}
{{- define "taskrouter-exporter.imagePullSecrets" -}}
{{- $secrets := list }}
{{- range concat (default list (.Values.global).imagePullSecrets) (default list .Values.imagePullSecrets) }}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with $secrets | uniq }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- /* Name of the Secret with the files next to config.yaml. Empty if there is none. */}}
{{- define "taskrouter-exporter.credentialsSecret" -}}
{{- if .Values.credentials.existingSecret }}
{{- .Values.credentials.existingSecret }}
{{- else if .Values.credentials.files }}
{{- include "taskrouter-exporter.fullname" . }}-credentials
{{- end }}
{{- end }}

{{- /* Source of the volume with config.yaml and the files next to it. */}}
{{- define "taskrouter-exporter.configVolume" -}}
projected:
  defaultMode: 0440
  sources:
    - configMap:
        name: {{ include "taskrouter-exporter.fullname" . | quote }}
    {{- with include "taskrouter-exporter.credentialsSecret" . }}
    - secret:
        name: {{ . | quote }}
    {{- end }}
{{- end }}

{{- /* Content of web.yml. `{}` without a web configuration. */}}
{{- define "taskrouter-exporter.webConfig" -}}
{{- $config := deepCopy .Values.web.config }}
{{- if .Values.web.tlsSecret }}
{{- $tls := merge (default dict $config.tls_server_config) (dict "cert_file" "tls.crt" "key_file" "tls.key") }}
{{- $_ := set $config "tls_server_config" $tls }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- /* URL scheme of the exporter. */}}
{{- define "taskrouter-exporter.scheme" -}}
{{- ternary "https" "http" (not (empty (include "taskrouter-exporter.webConfig" . | fromYaml).tls_server_config)) }}
{{- end }}

{{- /* Address of the first --web.listen-address in extraArgs, by default `:10142`. */}}
{{- define "taskrouter-exporter.listenAddress" -}}
{{- $flag := join " " .Values.extraArgs | regexFind "(^| )--web\\.listen-address[= ][^ ]*:[0-9]+( |$)" | trim }}
{{- regexReplaceAll "^--web\\.listen-address[= ]" (default ":10142" $flag) "" }}
{{- end }}

{{- /* Port of the container. */}}
{{- define "taskrouter-exporter.port" -}}
{{- include "taskrouter-exporter.listenAddress" . | regexFind "[0-9]+$" }}
{{- end }}

{{- /* Host of the listen address. Empty if the exporter listens on all addresses of the Pod. */}}
{{- define "taskrouter-exporter.listenHost" -}}
{{- include "taskrouter-exporter.listenAddress" . | regexFind "^.*:" | trimSuffix ":" | regexFind "^.*[1-9a-zA-Z].*$" }}
{{- end }}

{{- /* HTTP client settings of Prometheus. Argument: list of the context and `tlsConfig`. */}}
{{- define "taskrouter-exporter.clientConfig" -}}
{{- $context := index . 0 }}
{{- if eq (include "taskrouter-exporter.scheme" $context) "https" }}
tlsConfig:
  {{- index . 1 | default (dict "insecureSkipVerify" true) | toYaml | nindent 2 }}
{{- end }}
{{- with $context.Values.web.basicAuthSecret }}
basicAuth:
  username:
    name: {{ . | quote }}
    key: username
  password:
    name: {{ . | quote }}
    key: password
{{- end }}
{{- end }}

{{- /* A probe: the chart's own, with the settings of the value of this name, which can replace the handler. Empty if the
       value is null. Argument: list of the context and the name. */}}
{{- define "taskrouter-exporter.probe" -}}
{{- $context := index . 0 }}
{{- $name := index . 1 }}
{{- $settings := get $context.Values $name }}
{{- if kindIs "map" $settings }}
{{- $probe := dict "timeoutSeconds" 5 }}
{{- if eq $name "startupProbe" }}
{{- $_ := merge $probe (dict "periodSeconds" 2 "failureThreshold" 30) }}
{{- end }}
{{- $handlers := pick $settings "exec" "grpc" "httpGet" "tcpSocket" }}
{{- if not $handlers }}
{{- $ready := eq $name "readinessProbe" }}
{{- $path := ternary "/-/ready" "/-/healthy" $ready }}
{{- $handlers = include "taskrouter-exporter.probeHandler" (list $context $path $ready) | fromYaml }}
{{- end }}
{{- merge (dict) $settings $handlers $probe | toYaml }}
{{- end }}
{{- end }}

{{- /* Handler of a probe. Argument: list of the context, the path and whether to authenticate. With a web configuration,
       the probe runs the image's health check, because httpGet can send neither a password nor a client certificate.
       So it does for an exporter that listens on one address, which httpGet may not reach. */}}
{{- define "taskrouter-exporter.probeHandler" -}}
{{- $context := index . 0 }}
{{- $host := include "taskrouter-exporter.listenHost" $context }}
{{- if and (eq (include "taskrouter-exporter.webConfig" $context) "{}") (not $host) -}}
httpGet:
  path: {{ index . 1 }}
  port: http
{{- else -}}
exec:
  command:
    {{- $url := printf "%s://%s:%s%s" (include "taskrouter-exporter.scheme" $context) (default "localhost" $host)
          (include "taskrouter-exporter.port" $context) (index . 1) }}
    {{- include "taskrouter-exporter.probeCommand" (list $context $url (index . 2)) | nindent 4 }}
{{- end }}
{{- end }}

{{- /* Command of the health check. Argument: list of the context, the URL and whether to authenticate. */}}
{{- define "taskrouter-exporter.probeCommand" -}}
{{- $context := index . 0 }}
{{- $command := list "python" "-P" "-m" "taskrouter_exporter.healthcheck" (index . 1) }}
{{- if and (index . 2) $context.Values.web.basicAuthSecret }}
{{- $command = append $command "/etc/taskrouter-exporter-web/probe" }}
{{- end }}
{{- toYaml $command }}
{{- end }}

{{- /* User as which Google's Prometheus authenticates: `podMonitoring.username`, or the only user. */}}
{{- define "taskrouter-exporter.podMonitoringUser" -}}
{{- $users := keys .Values.web.config.basic_auth_users }}
{{- $username := .Values.podMonitoring.username }}
{{- if not (or $username (eq (len $users) 1)) }}
{{- fail "podMonitoring.username is required, because web.config.basic_auth_users has more than one user" }}
{{- else if and $username (not (has $username $users)) }}
{{- fail (printf "podMonitoring.username: %s is not in web.config.basic_auth_users" $username) }}
{{- end }}
{{- default (first $users) $username }}
{{- end }}

{{- /* The basic-auth Secret as a source of a projected volume. */}}
{{- define "taskrouter-exporter.probeSecret" -}}
secret:
  name: {{ .Values.web.basicAuthSecret | quote }}
  items:
    - {key: username, path: probe/username}
    - {key: password, path: probe/password}
{{- end }}

{{- /* Checks that the schema cannot express. Each error is one line that says what to change. */}}
{{- define "taskrouter-exporter.validate" -}}
{{- $config := .Values.config }}
{{- $credentials := .Values.credentials }}
{{- $discovers := false }}
{{- range $name, $account := $config.accounts }}
{{- $discovers = or $discovers (hasKey $account "workspaces") }}
{{- if hasKey $account "password" }}
{{- fail (printf "config.accounts.%s.password would be stored in a ConfigMap: use password_file: KEY instead, and add KEY to the Secret credentials.existingSecret" $name) }}
{{- end }}
{{- with $account.password_file }}
{{- if not (or (hasPrefix "/" .) $credentials.existingSecret (hasKey $credentials.files .)) }}
{{- fail (printf "config.accounts.%s.password_file: %s does not exist: set credentials.existingSecret to a Secret with this key" $name .) }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.demo.enabled }}
{{- if $config }}
{{- fail "config and demo.enabled are mutually exclusive: remove one of them" }}
{{- end }}
{{- else if not (or $config.targets $discovers) }}
{{- fail "nothing to export: set config.targets (or config.accounts.NAME.workspaces: auto), or demo.enabled=true for the demo" }}
{{- else if not (or $config.accounts .Values.extraEnv .Values.extraEnvFrom) }}
{{- fail "no credentials: set config.accounts and credentials.existingSecret, or set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN with extraEnvFrom" }}
{{- end }}
{{- if .Values.backfill.enabled }}
{{- if .Values.demo.enabled }}
{{- fail "backfill.enabled and demo.enabled are mutually exclusive: the demo has no past to keep" }}
{{- else if not (or .Values.backfill.remoteWriteUrl .Values.backfill.existingClaim) }}
{{- fail "backfill.enabled requires backfill.remoteWriteUrl, or backfill.existingClaim for the output" }}
{{- end }}
{{- end }}
{{- if and .Values.web.basicAuthSecret (not .Values.web.config.basic_auth_users) }}
{{- fail "web.basicAuthSecret requires web.config.basic_auth_users" }}
{{- end }}
{{- $_ := include "taskrouter-exporter.replicas" . }}
{{- with .Values.podDisruptionBudget }}
{{- if not (or (kindIs "invalid" .minAvailable) (kindIs "invalid" .maxUnavailable)) }}
{{- fail "podDisruptionBudget.minAvailable and podDisruptionBudget.maxUnavailable are mutually exclusive: remove one of them" }}
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- fail "ingress.enabled requires ingress.hosts, such as [{host: exporter.example.com}]" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.enabled requires httpRoute.parentRefs, such as [{name: NAME-OF-THE-GATEWAY}]" }}
{{- end }}
{{- with .Values.verticalPodAutoscaler }}
{{- $resizesCpu := and (or (not .controlledResources) (has "cpu" .controlledResources)) (ne "Off" (default "" (.updatePolicy).updateMode)) }}
{{- if and .enabled $.Values.autoscaling.enabled $resizesCpu }}
{{- fail "autoscaling and verticalPodAutoscaler would both act on the CPU: set verticalPodAutoscaler.controlledResources=[memory]" }}
{{- end }}
{{- end }}
{{- end }}
