{{/* One peer: pods of a component of proa. (dict "component" "gateway" ["namespace" NS] ["instance" RELEASE]) */}}
{{- define "proa.peer" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/part-of: proa
      app.kubernetes.io/component: {{ .component }}
      {{- with .instance }}
      app.kubernetes.io/instance: {{ . }}
      {{- end }}
  {{- with .namespace }}
  namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . }}
  {{- end }}
{{- end }}

{{/* Prometheus: the bundled one of this platform, and the one that the values name.
     (dict "prometheus" VALUES "platform" NAMESPACE) */}}
{{- define "proa.prometheusPeers" -}}
{{ include "proa.peer" (dict "component" "prometheus" "namespace" .platform) }}
{{- if .prometheus.namespace }}
- podSelector:
    matchLabels:
      {{- toYaml .prometheus.labels | nindent 6 }}
  namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ .prometheus.namespace }}
{{- end }}
{{- end }}

{{- define "proa.egressDns" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
      podSelector:
        matchLabels:
          k8s-app: kube-dns
  ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end }}

{{/* (… "ingress" YAML "egress" YAML "values" with networkPolicy.extraIngress/extraEgress) */}}
{{- define "proa.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
{{ include "proa.metadata" . }}
spec:
  podSelector:
    matchLabels:
      {{- .selector | default (include "proa.selector" .) | nindent 6 }}
  policyTypes:
    - Ingress
    - Egress
  {{- $ingress := concat (fromYamlArray (.ingress | default "[]")) (.policy.extraIngress | default list) }}
  ingress: {{- if not $ingress }} []{{ end }}
    {{- with $ingress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- $egress := concat (fromYamlArray (include "proa.egressDns" .)) (fromYamlArray (.egress | default "[]")) (.policy.extraEgress | default list) }}
  egress:
    {{- toYaml $egress | nindent 4 }}
{{- end }}

{{/* An ingress or egress rule. (dict "peers" YAML "ports" LIST) */}}
{{- define "proa.allowFrom" -}}
- from:
    {{- .peers | nindent 4 }}
  ports:
    {{- range .ports }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end }}

{{- define "proa.allowTo" -}}
- to:
    {{- .peers | nindent 4 }}
  ports:
    {{- range .ports }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end }}

{{/* Anywhere, on these ports: what no selector can name (the API server, a bucket, a database outside). */}}
{{- define "proa.allowOut" -}}
- ports:
    {{- range .ports }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end }}
