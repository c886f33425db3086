{{/* metadata of an object. (dict "root" "name" "component" ["object" NAME] ["namespace" NS] ["annotations" DICT] ["more" DICT]) */}}
{{- define "proa.metadata" -}}
metadata:
  name: {{ .object | default .name }}
  namespace: {{ .namespace | default .root.Release.Namespace }}
  labels:
    {{- include "proa.labels" . | nindent 4 }}
    {{- with .more }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* (… "ports" DICT name→port "headless" BOOL "select" extra labels) */}}
{{- define "proa.service" -}}
apiVersion: v1
kind: Service
{{ include "proa.metadata" . }}
spec:
  {{- if .headless }}
  clusterIP: None
  {{- else }}
  type: ClusterIP
  {{- end }}
  selector:
    {{- include "proa.selector" . | nindent 4 }}
    {{- with .select }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    {{- range $name, $port := .ports }}
    - name: {{ $name }}
      port: {{ $port }}
      targetPort: {{ $name }}
      protocol: TCP
    {{- end }}
{{- end }}

{{- define "proa.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
{{ include "proa.metadata" . }}
automountServiceAccountToken: false
{{- end }}

{{/* maxUnavailable and not minAvailable: a single replica must not make a node undrainable.
     (… "select" extra labels: pods without a living owner make the API server refuse evictions) */}}
{{- define "proa.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
{{ include "proa.metadata" . }}
spec:
  maxUnavailable: {{ .values.disruption.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "proa.selector" . | nindent 6 }}
      {{- with .select }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end }}

{{/* (… "targetKind" Deployment|StatefulSet "query" PromQL with one element, for KEDA) */}}
{{- define "proa.autoscaler" -}}
{{- $a := .values.autoscaling -}}
{{- if gt (int $a.minReplicas) (int $a.maxReplicas) }}
{{- fail (printf "%sautoscaling.minReplicas = %v is above autoscaling.maxReplicas = %v" (.path | default "") $a.minReplicas $a.maxReplicas) }}
{{- end }}
{{- if eq $a.kind "keda" }}
{{- if not $a.keda.prometheusUrl }}
{{- fail (printf "%sautoscaling.keda.prometheusUrl is empty: KEDA asks Prometheus, give its URL (http://prometheus.monitoring:9090)" (.path | default "")) }}
{{- end }}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
{{ include "proa.metadata" . }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ .targetKind | default "Deployment" }}
    name: {{ .name }}
  minReplicaCount: {{ $a.minReplicas }}
  maxReplicaCount: {{ $a.maxReplicas }}
  pollingInterval: 15
  cooldownPeriod: {{ $a.cooldownSeconds }}
  fallback:
    failureThreshold: 3
    replicas: {{ $a.minReplicas }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        {{- include "proa.scalingBehavior" $a | nindent 8 }}
  triggers:
    - type: prometheus
      metricType: AverageValue
      metadata:
        serverAddress: {{ $a.keda.prometheusUrl | quote }}
        query: {{ .query | quote }}
        threshold: {{ $a.keda.perReplica | quote }}
        ignoreNullValues: "false"
{{- else }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
{{ include "proa.metadata" . }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ .targetKind | default "Deployment" }}
    name: {{ .name }}
  minReplicas: {{ $a.minReplicas }}
  maxReplicas: {{ $a.maxReplicas }}
  behavior:
    {{- include "proa.scalingBehavior" $a | nindent 4 }}
  metrics:
    {{- if .podMetric }}
    - type: Pods
      pods:
        metric:
          name: {{ .podMetric }}
        target:
          type: AverageValue
          averageValue: {{ $a.hpa.perReplica | quote }}
    {{- else }}
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ $a.hpa.cpuUtilization }}
    {{- end }}
{{- end }}
{{- end }}

{{- define "proa.scalingBehavior" -}}
scaleDown:
  stabilizationWindowSeconds: {{ .cooldownSeconds }}
  policies:
    - type: Pods
      value: 1
      periodSeconds: 60
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - type: Percent
      value: 100
      periodSeconds: 30
{{- end }}

{{/* (… "monitoring" DICT "port" NAME) Prometheus sees model, track and version as labels. */}}
{{- define "proa.podMonitor" -}}
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
{{ include "proa.metadata" (merge (dict "more" .monitoring.labels) .) }}
spec:
  selector:
    matchLabels:
      {{- .selector | default (include "proa.selector" .) | nindent 6 }}
  podMetricsEndpoints:
    - port: {{ .port }}
      path: /metrics
      interval: {{ .monitoring.intervalSeconds }}s
      relabelings:
        {{- range $label := list "model" "track" "version" "engine" }}
        - action: replace
          sourceLabels:
            - __meta_kubernetes_pod_label_proa_dev_{{ $label }}
          targetLabel: proa_{{ $label }}
        {{- end }}
{{- end }}
