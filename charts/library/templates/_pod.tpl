{{/*
A pod, restricted as Pod Security asks and a little more.

root: $        name, component     as in proa.labels
values: resources, startup, drain, health, scheduling, podLabels, podAnnotations, extraEnv
container: image (a reference), command, args, env, ports, mounts, and optionally ready, live,
           liveness (a probe of its own), preStop, lingers, readOnly
labels, init, volumes                 optional
account: name of a ServiceAccount whose token is mounted; without it there is no token
user: uid and gid of the process
*/}}
{{- define "proa.pod" -}}
{{- $values := .values -}}
metadata:
  {{- with $values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  labels:
    {{- /* No version and no chart: a new chart must not replace every pod. */}}
    {{- include "proa.selector" . | nindent 4 }}
    app.kubernetes.io/part-of: proa
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- with .account }}
  serviceAccountName: {{ . }}
  {{- end }}
  automountServiceAccountToken: {{ not (empty .account) }}
  enableServiceLinks: false
  {{- include "proa.pullSecrets" . | nindent 2 }}
  securityContext:
    {{- include "proa.podSecurity" . | nindent 4 }}
  terminationGracePeriodSeconds: {{ include "proa.graceSeconds" . }}
  {{- include "proa.scheduling" . | nindent 2 }}
  {{- with .init }}
  initContainers:
    {{- . | nindent 4 }}
  {{- end }}
  containers:
    {{- include "proa.container" . | nindent 4 }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: {{ .tmpSize | default "256Mi" }}
    {{- with .volumes }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "proa.container" -}}
{{- $c := .container -}}
- name: {{ .component }}
  image: {{ $c.image }}
  imagePullPolicy: {{ include "proa.pullPolicy" . }}
  {{- with $c.command }}
  command:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.args }}
  args:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  env:
    - name: HOME
      value: /tmp
    {{- with $c.env }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $c.ports }}
  ports:
    {{- range $name, $port := . }}
    - name: {{ $name }}
      containerPort: {{ $port }}
      protocol: TCP
    {{- end }}
  {{- end }}
  {{- include "proa.probes" . | nindent 2 }}
  {{- include "proa.lifecycle" . | nindent 2 }}
  resources:
    {{- $resources := deepCopy (.values.resources | default dict) }}
    {{- with $c.resources }}{{ $resources = mustMergeOverwrite $resources . }}{{ end }}
    {{- toYaml $resources | nindent 4 }}
  securityContext:
    {{- include "proa.containerSecurity" (dict "readOnly" (ne ($c.readOnly | toString) "false")) | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - name: tmp
      mountPath: /tmp
    {{- with $c.mounts }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "proa.podSecurity" -}}
{{- $user := .user | default 10001 -}}
runAsNonRoot: true
runAsUser: {{ $user }}
runAsGroup: {{ $user }}
fsGroup: {{ $user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "proa.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop:
    - ALL
readOnlyRootFilesystem: {{ .readOnly }}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/*
One startup budget: until the startup probe has passed, nothing else can restart the container, and
it may take exactly startup.timeoutSeconds.
*/}}
{{- define "proa.probes" -}}
{{- $c := .container -}}
{{- $health := .values.health | default dict -}}
{{- $port := $c.probePort | default "http" -}}
{{- $period := ternary 10 2 (gt (int .values.startup.timeoutSeconds) 300) -}}
{{- if $c.live }}
startupProbe:
  httpGet:
    path: {{ $c.live }}
    port: {{ $port }}
  periodSeconds: {{ $period }}
  timeoutSeconds: 5
  failureThreshold: {{ divf (.values.startup.timeoutSeconds | float64) $period | ceil | int }}
livenessProbe:
  {{- if $c.liveness }}
  {{- toYaml $c.liveness | nindent 2 }}
  {{- else }}
  httpGet:
    path: {{ $c.live }}
    port: {{ $port }}
  periodSeconds: {{ $health.periodSeconds | default 10 }}
  timeoutSeconds: {{ $health.timeoutSeconds | default 5 }}
  failureThreshold: {{ $health.failureThreshold | default 6 }}
  {{- end }}
readinessProbe:
  httpGet:
    path: {{ $c.ready }}
    port: {{ $port }}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}
{{- end }}

{{/* Image pulls and scheduling are not the process's fault: five minutes on top of its budget. */}}
{{- define "proa.progressDeadline" -}}
{{ add (int .values.startup.timeoutSeconds) 300 }}
{{- end }}

{{/*
One drain budget: the endpoint is withdrawn while the process still answers (lingerSeconds), then
what is under way may end (timeoutSeconds); the grace is longer than both together. A process that
`lingers` by itself has no hook: it tells its clients to leave while it still takes what they send.
*/}}
{{- define "proa.lifecycle" -}}
{{- $c := .container -}}
{{- if $c.preStop }}
lifecycle:
  preStop:
    {{- toYaml $c.preStop | nindent 4 }}
{{- else if and .values.drain.lingerSeconds (not $c.lingers) }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ .values.drain.lingerSeconds }}
{{- end }}
{{- end }}

{{- define "proa.graceSeconds" -}}
{{ add (int .values.drain.lingerSeconds) (int .values.drain.timeoutSeconds) (int (.container.shutdownSeconds | default 0)) 10 }}
{{- end }}

{{- define "proa.scheduling" -}}
{{- $s := .values.scheduling | default dict -}}
{{- with $s.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $affinity := deepCopy ($s.affinity | default dict) }}
{{- with .affinity }}{{ $affinity = mustMergeOverwrite (deepCopy .) $affinity }}{{ end }}
{{- with $affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat ($s.tolerations | default list) (.tolerations | default list) }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $s.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $s.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- if $s.topologySpread }}
topologySpreadConstraints:
  {{- $root := . }}
  {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys:
      - pod-template-hash
    labelSelector:
      matchLabels:
        {{- include "proa.selector" $root | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A Secret's keys as files, for this pod alone. (list of dict "name" "secret") */}}
{{- define "proa.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    {{- with .keys }}
    items:
      {{- range . }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
    {{- end }}
{{- end }}
