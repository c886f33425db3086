{{/*
What predictor and assistant share: pods that serve releases of one model.

A release reaches the pod through the annotation proa.dev/release of its template, which only the
controller writes: no chart renders it, so that an upgrade leaves the release alone. Without it the
process is Ready and answers 503 `no_release`.

(dict "root" $ "name" MODEL "component" predictor|assistant "values" .Values "module" PYTHON MODULE
      "args" LIST ["volumes" YAML] ["mounts" YAML])
*/}}
{{- define "proa.release.deployment" -}}
{{- $v := .root.Values -}}
{{- $pod := dict "root" .root "name" .name "component" .component "values" $v }}
{{- $_ := set $pod "labels" (include "proa.release.labels" . | fromYaml) }}
{{- $_ := set $pod "init" (include "proa.release.fetch" .) }}
{{- $_ := set $pod "volumes" (include "proa.release.volumes" .) }}
{{- $container := dict "image" (include "proa.image" (dict "root" .root "image" $v.image)) "live" "/healthz" "ready" "/readyz" }}
{{- $_ := set $container "command" ($v.command | default (list "python" "-m" .module)) }}
{{- $_ := set $container "args" (concat (include "proa.release.args" . | fromYamlArray) .args $v.extraArgs) }}
{{- $_ := set $container "env" (include "proa.release.env" .) }}
{{- $_ := set $container "mounts" (include "proa.release.mounts" .) }}
{{- $_ := set $container "ports" (dict "http" 8080 "metrics" 9090) }}
{{- $_ := set $pod "container" $container -}}
apiVersion: apps/v1
kind: Deployment
{{ include "proa.metadata" (merge (dict "more" (include "proa.release.labels" . | fromYaml)) .) }}
spec:
  {{- if not $v.autoscaling.enabled }}
  replicas: {{ $v.replicas }}
  {{- end }}
  revisionHistoryLimit: {{ $v.rollout.revisionHistoryLimit }}
  progressDeadlineSeconds: {{ include "proa.progressDeadline" (dict "values" $v) }}
  minReadySeconds: {{ $v.rollout.minReadySeconds }}
  strategy:
    {{- include "proa.strategy" $v.rollout.strategy | nindent 4 }}
  selector:
    matchLabels:
      {{- include "proa.selector" . | nindent 6 }}
      proa.dev/track: champion
  template:
    {{- include "proa.pod" $pod | nindent 4 }}
{{- end }}

{{/* The controller clones this template for a challenger and changes the track alone. */}}
{{- define "proa.release.labels" -}}
proa.dev/model: {{ .name }}
proa.dev/track: champion
{{- end }}

{{/* surge: a new pod beside the old ones; inPlace: an old one ends first; recreate: all of them. */}}
{{- define "proa.strategy" -}}
{{- if eq . "recreate" -}}
type: Recreate
{{- else -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: {{ ternary 1 0 (eq . "surge") }}
  maxUnavailable: {{ ternary 0 1 (eq . "surge") }}
{{- end }}
{{- end }}

{{- define "proa.release.args" -}}
{{- $v := .root.Values -}}
- --release=$(PROA_RELEASE)
- --bundles=file:///var/lib/proa/bundles
- --workdir=/var/lib/proa/releases
- --host=0.0.0.0
- --port=8080
- --metrics-port=9090
- --monitor={{ $v.platform.monitor | default (printf "http://%s-monitor.%s.svc:8080" $v.platform.release (include "proa.platformNamespace" .root)) }}
- --key-file=/etc/proa/keys/{{ $v.keys.key }}
- --drain-seconds={{ $v.drain.timeoutSeconds }}
{{- end }}

{{- define "proa.platformNamespace" -}}
{{ .Values.platform.namespace | default .Release.Namespace }}
{{- end }}

{{/* Absent annotation, empty value: Kubernetes fills args and environment with what the template says. */}}
{{- define "proa.release.env" -}}
- name: PROA_RELEASE
  valueFrom:
    fieldRef:
      fieldPath: metadata.annotations['proa.dev/release']
- name: PROA_TRACK
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['proa.dev/track']
{{- end }}

{{/* Fetches and verifies the bundle with read-only credentials that the serving container never sees. */}}
{{- define "proa.release.fetch" -}}
{{- $v := .root.Values -}}
- name: fetch
  image: {{ include "proa.image" (dict "root" .root "image" (ternary $v.fetch.image $v.image (not (empty $v.fetch.image.repository)))) }}
  imagePullPolicy: {{ include "proa.pullPolicy" . }}
  command:
    - python
    - -m
    - proa.release.fetch
  args:
    - --release=$(PROA_RELEASE)
    - --from={{ $v.bundles.url }}
    - --to=file:///var/lib/proa/bundles
    - --lay=/var/lib/proa/releases
  env:
    - name: HOME
      value: /tmp
    {{- include "proa.release.env" . | nindent 4 }}
    {{- include "proa.bundles.env" .root | nindent 4 }}
  resources:
    {{- toYaml $v.fetch.resources | nindent 4 }}
  securityContext:
    {{- include "proa.containerSecurity" (dict "readOnly" true) | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - name: tmp
      mountPath: /tmp
    - name: data
      mountPath: /var/lib/proa
    {{- include "proa.bundles.mounts" (dict "root" .root "readOnly" true) | nindent 4 }}
{{- end }}

{{- define "proa.release.volumes" -}}
- name: data
  emptyDir:
    sizeLimit: {{ .root.Values.workdir.sizeLimit }}
{{ include "proa.secretVolume" (dict "name" "keys" "secret" .root.Values.keys.existingSecret "keys" (list .root.Values.keys.key)) }}
{{ include "proa.bundles.volumes" .root }}
{{- with .volumes }}
{{ . }}
{{- end }}
{{- end }}

{{- define "proa.release.mounts" -}}
- name: data
  mountPath: /var/lib/proa
- name: keys
  mountPath: /etc/proa/keys
  readOnly: true
{{- with .mounts }}
{{ . }}
{{- end }}
{{- end }}

{{/* ---- the bundle store: a folder on a claim, or S3 with its credentials in a file ---- */}}

{{- define "proa.bundles.check" -}}
{{- $b := .Values.bundles -}}
{{- if and (hasPrefix "file://" $b.url) (not (hasPrefix "file:///bundles" $b.url)) }}
{{- fail (printf "bundles.url = %q: the claim is mounted at /bundles, expected file:///bundles" $b.url) }}
{{- end }}
{{- if and (hasPrefix "file://" $b.url) (not (include "proa.bundles.claim" .)) }}
{{- fail "bundles.existingClaim is empty: a bundles.url of file:// needs the claim that holds the folder" }}
{{- end }}
{{- if and (hasPrefix "s3://" $b.url) (include "proa.bundles.claim" .) }}
{{- fail (printf "bundles.existingClaim has no meaning for bundles.url = %q: leave it empty" $b.url) }}
{{- end }}
{{- end }}

{{- define "proa.bundles.claim" -}}
{{- $b := .Values.bundles -}}
{{- $b.existingClaim | default (ternary (printf "%s-bundles" .Release.Name) "" (not (empty $b.size))) -}}
{{- end }}

{{- define "proa.bundles.env" -}}
{{- $b := .Values.bundles -}}
{{- if and (hasPrefix "s3://" $b.url) $b.existingSecret }}
- name: AWS_SHARED_CREDENTIALS_FILE
  value: /etc/proa/bundles/credentials
{{- end }}
{{- with $b.endpoint }}
- name: AWS_ENDPOINT_URL_S3
  value: {{ . | quote }}
{{- end }}
{{- with $b.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "proa.bundles.volumes" -}}
{{- $b := .Values.bundles -}}
{{- if include "proa.bundles.claim" . }}
- name: bundles
  persistentVolumeClaim:
    claimName: {{ include "proa.bundles.claim" . }}
{{- else if $b.existingSecret }}
{{ include "proa.secretVolume" (dict "name" "bundles-credentials" "secret" $b.existingSecret "keys" (list "credentials")) }}
{{- end }}
{{- end }}

{{- define "proa.bundles.mounts" -}}
{{- $b := .root.Values.bundles -}}
{{- if include "proa.bundles.claim" .root }}
- name: bundles
  mountPath: /bundles
  readOnly: {{ .readOnly }}
{{- else if $b.existingSecret }}
- name: bundles-credentials
  mountPath: /etc/proa/bundles
  readOnly: true
{{- end }}
{{- end }}

{{/* The port of an S3 endpoint. */}}
{{- define "proa.bundles.egress" -}}
{{- $b := .Values.bundles -}}
{{- if hasPrefix "s3://" $b.url }}
{{- $port := 443 }}
{{- with $b.endpoint }}
{{- $host := (urlParse .).host }}
{{- $port = regexFind ":[0-9]+$" $host | trimPrefix ":" | default (ternary "443" "80" (hasPrefix "https" .)) | int }}
{{- end }}
{{ include "proa.allowOut" (dict "ports" (list $port)) }}
{{- end }}
{{- end }}

{{/* ---- who may speak to it ---- */}}

{{- define "proa.release.networkPolicy" -}}
{{- $v := .root.Values -}}
{{- $platform := include "proa.platformNamespace" .root -}}
{{- $gateway := include "proa.peer" (dict "component" "gateway" "namespace" $platform "instance" $v.platform.release) -}}
{{- $test := include "proa.peer" (dict "component" "test" "instance" .root.Release.Name) -}}
{{- $ingress := list (include "proa.allowFrom" (dict "peers" (printf "%s\n%s" $gateway $test) "ports" (list "http"))) -}}
{{- $ingress = append $ingress (include "proa.allowFrom" (dict "peers" (include "proa.prometheusPeers" (dict "prometheus" $v.networkPolicy.prometheus "platform" $platform)) "ports" (list "metrics"))) -}}
{{- $monitor := include "proa.peer" (dict "component" "monitor" "namespace" $platform "instance" $v.platform.release) -}}
{{- $egress := list (include "proa.allowTo" (dict "peers" $monitor "ports" (list 8080))) -}}
{{- with include "proa.bundles.egress" .root }}{{ $egress = append $egress (trim .) }}{{ end -}}
{{- range .egress }}{{ $egress = append $egress . }}{{ end -}}
{{- /* Challengers too: every pod of the model. */}}
{{- $selector := printf "app.kubernetes.io/part-of: proa\nproa.dev/model: %s" .name -}}
{{ include "proa.networkPolicy" (merge (dict "ingress" (join "\n" $ingress) "egress" (join "\n" $egress) "policy" $v.networkPolicy "selector" $selector) .) }}
{{- end }}

{{/* ---- helm test ---- */}}

{{/* (dict "root" "name" "component" "test" "image" REF "script" TEXT "args" LIST ["env" YAML] ["volumes" YAML] ["mounts" YAML]) */}}
{{- define "proa.testPod" -}}
apiVersion: v1
kind: Pod
{{ include "proa.metadata" (merge (dict "object" (printf "%s-test" .name) "annotations" (dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation")) .) }}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- include "proa.pullSecrets" . | nindent 2 }}
  securityContext:
    {{- include "proa.podSecurity" . | nindent 4 }}
  containers:
    - name: test
      image: {{ .image }}
      imagePullPolicy: {{ include "proa.pullPolicy" . }}
      command:
        - python3
        - -I
        - -c
      args:
        - {{ .script | quote }}
        {{- toYaml .args | nindent 8 }}
      resources:
        requests:
          cpu: 50m
          memory: 64Mi
        limits:
          memory: 256Mi
      securityContext:
        {{- include "proa.containerSecurity" (dict "readOnly" true) | nindent 8 }}
      terminationMessagePolicy: FallbackToLogsOnError
      {{- with .mounts }}
      volumeMounts:
        {{- . | nindent 8 }}
      {{- end }}
  {{- with .volumes }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
{{- end }}
