{{- define "komputer.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "komputer.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* The labels of an object. Call with (dict "root" $ "component" "api"). */}}
{{- define "komputer.labels" -}}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: komputer
{{ include "komputer.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "komputer.selector" -}}
app.kubernetes.io/name: komputer
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "komputer.redis.url" -}}
{{ .Values.redis.url | default (printf "redis://%s-valkey.%s.svc:6379/0" (include "komputer.fullname" .) .Release.Namespace) }}
{{- end }}

{{/* The name and key of the Secret with Redis' password, as JSON; {} if Redis has no password. */}}
{{- define "komputer.redis.secret" -}}
{{- if .Values.redis.url }}
{{- if .Values.redis.existingSecret }}{{ dict "name" .Values.redis.existingSecret "key" .Values.redis.existingSecretKey | toJson }}{{ else }}{}{{ end }}
{{- else if .Values.valkey.existingSecret }}{{ dict "name" .Values.valkey.existingSecret "key" .Values.valkey.existingSecretKey | toJson }}
{{- else }}{{ dict "name" (printf "%s-valkey" (include "komputer.fullname" .)) "key" "password" | toJson }}{{ end }}
{{- end }}

{{- define "komputer.model.secret" -}}
{{- if or .Values.model.offline (not (or .Values.model.existingSecret .Values.model.apiKey)) }}{}
{{- else if .Values.model.existingSecret }}{{ dict "name" .Values.model.existingSecret "key" .Values.model.existingSecretKey | toJson }}
{{- else }}{{ dict "name" (printf "%s-model" (include "komputer.fullname" .)) "key" "api-key" | toJson }}{{ end }}
{{- end }}

{{/* The Secrets of the platform, which connectors and agents may not use. */}}
{{- define "komputer.platformSecrets" -}}
{{- $names := list }}
{{- range list "komputer.redis.secret" "komputer.model.secret" }}
{{- with (include . $ | fromJson).name }}{{ $names = append $names . }}{{ end }}
{{- end }}
{{- with .Values.redis.sentinelExistingSecret }}{{ $names = append $names . }}{{ end }}
{{- range $index, $name := uniq $names }}{{ if $index }}, {{ end }}{name: {{ $name }}, namespace: {{ $.Release.Namespace }}}{{ end }}
{{- end }}

{{/* The environment variables of every process. */}}
{{- define "komputer.env" -}}
- {name: KOMPUTER_LOG_LEVEL, value: {{ .Values.logLevel | quote }}}
- {name: KOMPUTER_LOG_FORMAT, value: {{ .Values.logFormat | quote }}}
- {name: KOMPUTER_METRICS_PORT, value: "9090"}
- {name: KOMPUTER_REDIS_URL, value: {{ include "komputer.redis.url" . | quote }}}
- {name: KOMPUTER_STREAM_PREFIX, value: {{ .Values.redis.streamPrefix | quote }}}
{{- with .Values.redis.username }}
- {name: KOMPUTER_REDIS_USERNAME, value: {{ . | quote }}}
{{- end }}
{{- if (include "komputer.redis.secret" . | fromJson).name }}
- {name: KOMPUTER_REDIS_PASSWORD_FILE, value: /etc/komputer/redis/password}
{{- end }}
{{- if .Values.redis.sentinelExistingSecret }}
- {name: KOMPUTER_SENTINEL_PASSWORD_FILE, value: /etc/komputer/sentinel/password}
{{- end }}
{{- if .Values.redis.caConfigMap }}
- {name: KOMPUTER_REDIS_CA_FILE, value: /etc/komputer/redis-ca/ca.crt}
{{- end }}
{{- with .Values.namespaces }}
- {name: KOMPUTER_NAMESPACES, value: {{ join "," . | quote }}}
{{- end }}
{{- end }}

{{- define "komputer.mounts" -}}
{{- if (include "komputer.redis.secret" . | fromJson).name }}
- {name: redis, mountPath: /etc/komputer/redis, readOnly: true}
{{- end }}
{{- if .Values.redis.sentinelExistingSecret }}
- {name: sentinel, mountPath: /etc/komputer/sentinel, readOnly: true}
{{- end }}
{{- if .Values.redis.caConfigMap }}
- {name: redis-ca, mountPath: /etc/komputer/redis-ca, readOnly: true}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "komputer.volumes" -}}
{{- with include "komputer.redis.secret" . | fromJson }}
{{- if .name }}
- name: redis
  secret: {secretName: {{ .name }}, defaultMode: 0440, items: [{key: {{ .key | quote }}, path: password}]}
{{- end }}
{{- end }}
{{- with .Values.redis.sentinelExistingSecret }}
- name: sentinel
  secret: {secretName: {{ . }}, defaultMode: 0440, items: [{key: {{ $.Values.redis.sentinelExistingSecretKey | quote }}, path: password}]}
{{- end }}
{{- with .Values.redis.caConfigMap }}
- name: redis-ca
  configMap: {name: {{ . }}, items: [{key: {{ $.Values.redis.caConfigMapKey | quote }}, path: ca.crt}]}
{{- end }}
- {name: tmp, emptyDir: {sizeLimit: 64Mi}}
{{- end }}

{{- define "komputer.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "komputer.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The Deployment of one process. Call with (dict "root" $ "component" "api" "port" 8080 "env" … "mounts" … "volumes" …). */}}
{{- define "komputer.deployment" -}}
{{- $root := .root }}
{{- $values := index $root.Values .component }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "komputer.fullname" $root }}-{{ .component }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "komputer.labels" . | nindent 4 }}
spec:
  {{- if not (and (hasKey $values "autoscaling") (get (get $values "autoscaling" | default dict) "enabled")) }}
  replicas: {{ $values.replicas }}
  {{- end }}
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector:
    matchLabels: {{- include "komputer.selector" . | nindent 6 }}
  template:
    metadata:
      labels: {{- include "komputer.labels" . | nindent 8 }}
      {{- with $values.podAnnotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "komputer.fullname" $root }}-{{ .component }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds | default 30 }}
      securityContext: {{- include "komputer.podSecurity" $root | nindent 8 }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      containers:
      - name: {{ .component }}
        image: {{ include "komputer.image" (dict "image" $root.Values.image "root" $root) | quote }}
        imagePullPolicy: {{ $root.Values.image.pullPolicy }}
        args: [{{ .component }}]
        env:
          {{- include "komputer.env" $root | nindent 10 }}
          {{- with .env }}
          {{- . | nindent 10 }}
          {{- end }}
          {{- with $values.extraEnv }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
        ports: [{name: http, containerPort: {{ .port }}}, {name: metrics, containerPort: 9090}]
        startupProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1, failureThreshold: 60}
        livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3}
        readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 3, timeoutSeconds: 3, failureThreshold: 2}
        resources: {{- toYaml $values.resources | nindent 10 }}
        securityContext: {{- include "komputer.containerSecurity" $root | nindent 10 }}
        volumeMounts:
          {{- include "komputer.mounts" $root | nindent 10 }}
          {{- with .mounts }}
          {{- . | nindent 10 }}
          {{- end }}
      volumes:
        {{- include "komputer.volumes" $root | nindent 8 }}
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
      {{- if $values.topologySpreadConstraints }}
        {{- toYaml $values.topologySpreadConstraints | nindent 8 }}
      {{- else }}
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector:
          matchLabels: {{- include "komputer.selector" . | nindent 12 }}
      {{- end }}
{{- end }}

{{/* The objects beside a Deployment: its ServiceAccount, PodDisruptionBudget and HorizontalPodAutoscaler. */}}
{{- define "komputer.companions" -}}
{{- $root := .root }}
{{- $values := index $root.Values .component }}
{{- $name := printf "%s-%s" (include "komputer.fullname" $root) .component }}
{{- $autoscaling := get $values "autoscaling" | default dict }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "komputer.labels" . | nindent 4 }}
  {{- with $values.serviceAccountAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- if and $values.minAvailable (or $autoscaling.enabled (gt (int $values.replicas) 1)) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "komputer.labels" . | nindent 4 }}
spec:
  minAvailable: {{ $values.minAvailable }}
  selector:
    matchLabels: {{- include "komputer.selector" . | nindent 6 }}
{{- end }}
{{- if $autoscaling.enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "komputer.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ $autoscaling.minReplicas }}
  maxReplicas: {{ $autoscaling.maxReplicas }}
  metrics:
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ $autoscaling.targetCPUUtilizationPercentage }}}}
{{- end }}
{{- end }}

{{- define "komputer.service" -}}
{{- $root := .root }}
{{- $values := index $root.Values .component }}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "komputer.fullname" $root }}-{{ .component }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "komputer.labels" . | nindent 4 }}
  {{- with $values.service.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $values.service.type | default "ClusterIP" }}
  selector: {{- include "komputer.selector" . | nindent 4 }}
  ports: [{name: http, port: {{ $values.service.port }}, targetPort: http}]
{{- end }}
