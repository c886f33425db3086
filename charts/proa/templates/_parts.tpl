{{- define "proa.modelNamespaces" -}}
{{ .Values.namespaces.models | default (list .Release.Namespace) | toYaml }}
{{- end }}

{{- define "proa.engineNamespaces" -}}
{{ .Values.namespaces.engines | default (list .Release.Namespace) | toYaml }}
{{- end }}

{{- define "proa.allNamespaces" -}}
{{ concat (list .Release.Namespace) .Values.namespaces.models .Values.namespaces.engines | uniq | sortAlpha | toYaml }}
{{- end }}

{{/* RELEASE-PART. (dict "root" $ "component" PART) */}}
{{- define "proa.partName" -}}
{{ .root.Release.Name }}-{{ .component }}
{{- end }}

{{- define "proa.postgresSecret" -}}
{{ .Values.postgres.existingSecret | default (printf "%s-postgres" .Release.Name) }}
{{- end }}

{{- define "proa.mlflowSecret" -}}
{{ .Values.mlflow.existingSecret | default (printf "%s-mlflow" .Release.Name) }}
{{- end }}

{{- define "proa.mlflowUrl" -}}
{{- if .Values.mlflow.enabled -}}
http://{{ .Release.Name }}-mlflow.{{ .Release.Namespace }}.svc:5000
{{- else -}}
{{ .Values.mlflow.url }}
{{- end }}
{{- end }}

{{- define "proa.keySecret" -}}
{{ .root.Release.Name }}-{{ .key }}-key
{{- end }}

{{/* What the schema cannot say: settings that need or exclude each other. */}}
{{- define "proa.check" -}}
{{- $v := .Values }}
{{- include "proa.bundles.check" . }}
{{- if and $v.postgres.bundled $v.postgres.existingSecret }}
{{- fail "postgres.bundled and postgres.existingSecret exclude each other: choose one database" }}
{{- end }}
{{- if not (or $v.postgres.bundled $v.postgres.existingSecret) }}
{{- fail "postgres.existingSecret is empty: name a Secret with ledger-url, mlflow-url and mlflow-auth-url, or set postgres.bundled: true to try it out" }}
{{- end }}
{{- if and $v.postgres.bundled (not $v.secrets.create) }}
{{- fail "postgres.bundled needs secrets.create: its password is made by the Job" }}
{{- end }}
{{- if and $v.mlflow.enabled $v.mlflow.url }}
{{- fail "mlflow.url has no meaning with mlflow.enabled: switch one off" }}
{{- end }}
{{- if not (or $v.mlflow.enabled $v.mlflow.url) }}
{{- fail "mlflow.url is empty: with mlflow.enabled off, name your own MLflow" }}
{{- end }}
{{- if not (or $v.secrets.create $v.mlflow.existingSecret) }}
{{- fail "mlflow.existingSecret is empty: with secrets.create off, name a Secret with auth.ini, flask-secret-key and credentials" }}
{{- end }}
{{- if and (not $v.mlflow.enabled) (not $v.mlflow.existingSecret) }}
{{- fail "mlflow.existingSecret is empty: your own MLflow needs a Secret with the entry credentials" }}
{{- end }}
{{- if and $v.mlflow.artifacts.existingSecret (hasPrefix "file://" $v.mlflow.artifacts.url) }}
{{- fail "mlflow.artifacts.existingSecret has no meaning for mlflow.artifacts.url of file://" }}
{{- end }}
{{- if and (hasPrefix "s3://" $v.mlflow.artifacts.url) (or $v.mlflow.artifacts.size $v.mlflow.artifacts.existingClaim) }}
{{- fail "mlflow.artifacts.size and existingClaim have no meaning for mlflow.artifacts.url of s3://" }}
{{- end }}
{{- if and $v.features.enabled (not $v.features.existingClaim) }}
{{- fail "features.existingClaim is empty: expected the claim with the feature repository" }}
{{- end }}
{{- include "proa.exposeCheck" . }}
{{- end }}

{{- define "proa.exposeCheck" -}}
{{- $e := .Values.expose }}
{{- if ne $e.kind "none" }}
{{- if not $e.host }}
{{- fail "expose.host is empty: expected the name people use" }}
{{- end }}
{{- if and (not $e.tls.existingSecret) (not $e.tls.terminatedElsewhere) (not $e.parentRefs) }}
{{- fail "expose.tls.existingSecret is empty: keys do not travel in the clear; name a Secret, or set expose.tls.terminatedElsewhere" }}
{{- end }}
{{- if and (eq $e.kind "ingress") $e.parentRefs }}
{{- fail "expose.parentRefs is for expose.kind httpRoute" }}
{{- end }}
{{- if and (eq $e.kind "httpRoute") (not $e.parentRefs) (not $e.className) }}
{{- fail "expose.parentRefs is empty: name the Gateways, or set expose.className and one is made" }}
{{- end }}
{{- end }}
{{- end }}

{{/*
One part: a Deployment or a StatefulSet.

root, component, values (of the part), args, module or command, ports, and optionally kind, claim
(dict name size storageClass), strategy, env, mounts, volumes, account, live, ready, lingers, replicas
*/}}
{{- define "proa.part" -}}
{{- $name := include "proa.partName" . -}}
{{- $values := merge (dict) .values -}}
{{- $pod := dict "root" .root "name" $name "component" .component "values" $values "volumes" .volumes "account" .account "user" .user }}
{{- $image := .image | default (include "proa.image" (dict "root" .root "image" .values.image)) }}
{{- $container := dict "image" $image "live" (.live | default "/healthz") "ready" (.ready | default "/readyz") "args" (concat .args (.values.extraArgs | default list)) "env" .env "mounts" .mounts "ports" .ports "command" (.command | default (list "python" "-m" .module)) "lingers" .lingers }}
{{- $_ := set $pod "container" $container }}
{{- $kind := .kind | default "Deployment" -}}
{{- $scaled := dig "autoscaling" "enabled" false .values -}}
apiVersion: apps/v1
kind: {{ $kind }}
{{ include "proa.metadata" (dict "root" .root "name" $name "component" .component) }}
spec:
  {{- if not $scaled }}
  replicas: {{ .values.replicas | default 1 }}
  {{- end }}
  revisionHistoryLimit: 10
  {{- if eq $kind "StatefulSet" }}
  serviceName: {{ $name }}-pods
  podManagementPolicy: Parallel
  updateStrategy:
    type: RollingUpdate
  {{- else }}
  progressDeadlineSeconds: {{ include "proa.progressDeadline" (dict "values" .values) }}
  strategy:
    {{- include "proa.strategy" (.strategy | default "surge") | nindent 4 }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "proa.selector" $pod | nindent 6 }}
  template:
    {{- include "proa.pod" $pod | nindent 4 }}
  {{- with .claim }}
  volumeClaimTemplates:
    - metadata:
        name: {{ .name }}
      spec:
        accessModes:
          - ReadWriteOnce
        {{- with .storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ .size }}
  {{- end }}
{{- end }}

{{/* The ledger's URL lies in a file: no password in arguments or environment. */}}
{{- define "proa.ledgerVolume" -}}
{{ include "proa.secretVolume" (dict "name" "ledger" "secret" (include "proa.postgresSecret" .) "keys" (list "ledger-url")) }}
{{- end }}

{{- define "proa.ledgerMount" -}}
- name: ledger
  mountPath: /etc/proa/ledger
  readOnly: true
{{- end }}

{{/* Pods of any namespace that say they are a client, and those the values name. */}}
{{- define "proa.clientPeers" -}}
- namespaceSelector: {}
  podSelector:
    matchLabels:
      proa.dev/client: "true"
{{ include "proa.peer" (dict "component" "test" "instance" .Release.Name) }}
{{- with .Values.networkPolicy.clients }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Pods of a component in each of these namespaces. (dict "namespaces" LIST "component" NAME) */}}
{{- define "proa.peersIn" -}}
{{- $component := .component }}
{{- range .namespaces }}
{{ include "proa.peer" (dict "component" $component "namespace" .) }}
{{- end }}
{{- end }}

{{- define "proa.egressPostgres" -}}
{{- if .Values.postgres.bundled }}
{{ include "proa.allowTo" (dict "peers" (include "proa.peer" (dict "component" "postgres" "instance" .Release.Name)) "ports" (list 5432)) }}
{{- else }}
{{ include "proa.allowOut" (dict "ports" (list (int .Values.postgres.port))) }}
{{- end }}
{{- end }}

{{- define "proa.egressApiServer" -}}
{{ include "proa.allowOut" (dict "ports" .Values.networkPolicy.apiServerPorts) }}
{{- end }}

{{- define "proa.metricsIngress" -}}
{{ include "proa.allowFrom" (dict "peers" (include "proa.prometheusPeers" (dict "prometheus" .Values.networkPolicy.prometheus "platform" .Release.Namespace)) "ports" (list "metrics")) }}
{{- end }}

{{/* A policy of a part, when policies are on. (dict "root" "component" "ingress" LIST "egress" LIST) */}}
{{- define "proa.partPolicy" -}}
{{- if .root.Values.networkPolicy.enabled }}
{{- $ingress := list }}{{ range .ingress }}{{ $ingress = append $ingress (trim .) }}{{ end }}
{{- $egress := list }}{{ range .egress }}{{ with trim . }}{{ $egress = append $egress . }}{{ end }}{{ end }}
{{ include "proa.networkPolicy" (dict "root" .root "name" (include "proa.partName" .) "component" .component "ingress" (join "\n" $ingress | default "[]") "egress" (join "\n" $egress | default "[]") "policy" .root.Values.networkPolicy) }}
{{- end }}
{{- end }}
