{{- /* The template of the backfill's Pod. */}}
{{- define "taskrouter-exporter.backfillTemplate" -}}
{{- with .Values.backfill }}
metadata:
  annotations:
    checksum/config: {{ toYaml $.Values.config | sha256sum | quote }}
  labels:
    {{- include "taskrouter-exporter.backfillLabels" $ | nindent 4 }}
spec:
  restartPolicy: OnFailure
  serviceAccountName: {{ include "taskrouter-exporter.serviceAccountName" $ | quote }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with $.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml $.Values.podSecurityContext | nindent 4 }}
  containers:
    - name: backfill
      image: {{ include "taskrouter-exporter.image" $ | quote }}
      imagePullPolicy: {{ $.Values.image.pullPolicy }}
      args:
        - backfill
        - --config.file=/etc/taskrouter-exporter/config.yaml
        - {{ printf "--from=%s" .from | quote }}
        - {{ printf "--to=%s" .to | quote }}
        - {{ printf "--step=%s" .step | quote }}
        {{- range $name, $value := .labels }}
        - {{ printf "--label=%s=%s" $name $value | quote }}
        {{- end }}
        {{- with .prometheusUrl }}
        - {{ printf "--prometheus=%s" . | quote }}
        {{- end }}
        {{- if .remoteWriteUrl }}
        - {{ printf "--remote-write=%s" .remoteWriteUrl | quote }}
        {{- else }}
        - --output=/backfill/history.om
        {{- end }}
        - --journal=/backfill/backfill.journal
        - --yes
        {{- with .extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $.Values.extraEnv }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $.Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      resources:
        {{- toYaml $.Values.resources | nindent 8 }}
      securityContext:
        {{- toYaml $.Values.securityContext | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/taskrouter-exporter
          readOnly: true
        - name: backfill
          mountPath: /backfill
        {{- with $.Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      {{- include "taskrouter-exporter.configVolume" $ | nindent 6 }}
    - name: backfill
      {{- if .existingClaim }}
      persistentVolumeClaim:
        claimName: {{ .existingClaim | quote }}
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- with $.Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
