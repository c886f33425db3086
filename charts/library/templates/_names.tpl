{{/* Labels that everything has. (dict "root" $ "name" NAME "component" COMPONENT) */}}
{{- define "proa.labels" -}}
{{ include "proa.selector" . }}
app.kubernetes.io/part-of: proa
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What selects pods: never changes during the life of a Helm release. */}}
{{- define "proa.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* `registry/repository:tag@digest`; a part's image takes registry and tag from the chart's.
     (dict "root" $ "image" PART.IMAGE) */}}
{{- define "proa.image" -}}
{{- $top := .root.Values.image | default dict -}}
{{- $registry := default ($top.registry | default "") .image.registry -}}
{{- $own := eq (.image.foreign | default false) false -}}
{{- $tag := .image.tag | default (ternary ($top.tag | default "") "" $own) | default .root.Chart.AppVersion -}}
{{- if $registry }}{{ $registry | trimSuffix "/" }}/{{ end -}}
{{- .image.repository }}:{{ $tag }}{{ with .image.digest }}@{{ . }}{{ end -}}
{{- end }}

{{/* Pull policy and secrets come from the chart's own `image`. */}}
{{- define "proa.pullPolicy" -}}
{{- .root.Values.image.pullPolicy | default "IfNotPresent" -}}
{{- end }}

{{- define "proa.pullSecrets" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Whether something that needs a CRD is rendered. (dict "root" $ "wish" auto|always|never "api" GROUP/VERSION) */}}
{{- define "proa.wanted" -}}
{{- if or (eq .wish "always") (and (eq .wish "auto") (.root.Capabilities.APIVersions.Has .api)) -}}yes{{- end -}}
{{- end }}
