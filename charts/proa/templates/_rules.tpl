{{/* Alerts and the queries they need; every alert has a section in RUNBOOKS.md. Those on models and
     on the monitor are files/model-rules.yaml, made from proa.findings.alerts: `proa rules`. */}}
{{- define "proa.rules" -}}
{{- $m := .Values.monitoring }}
{{- $here := printf "namespace=%q" .Release.Namespace }}
{{- $all := printf "namespace=~%q" (include "proa.allNamespaces" . | fromYamlArray | join "|") }}
{{- $alerts := list }}
{{- $alerts = append $alerts (dict "name" "ProaRolloutStuck" "for" (printf "%dm" (int $m.rolloutStuckMinutes)) "severity" "warning"
  "expr" (printf "max by (namespace, model) (proa_rollout_phase{phase!=\"idle\",%s}) == 1" $here)
  "summary" "The rollout of {{ $labels.model }} has not ended") }}
{{- $alerts = append $alerts (dict "name" "ProaControllerNotLeading" "for" "2m" "severity" "critical"
  "expr" (printf "sum by (namespace) (proa_controller_leader{%s}) != 1 or absent(proa_controller_leader{%s})" $here $here)
  "summary" "No controller leads, or several do: releases stay where they are") }}
{{- $alerts = append $alerts (dict "name" "ProaRoutesStale" "for" "2m" "severity" "critical"
  "expr" (printf "max by (namespace) (proa_controller_routes_generation{%s}) - on (namespace) min by (namespace) (proa_gateway_routes_generation{%s}) > 0" $here $here)
  "summary" "A gateway routes by an older generation than the controller wrote") }}
{{- $alerts = append $alerts (dict "name" "ProaRoutesRefused" "for" "5m" "severity" "warning"
  "expr" (printf "max by (namespace, pod) ({__name__=~\"proa_gateway_(routes|engines)_refused\",%s}) > 0" $here)
  "summary" "{{ $labels.pod }} refuses the present routes or engines and goes on with those before") }}
{{- $alerts = append $alerts (dict "name" "ProaRollbackNotReady" "for" "15m" "severity" "warning"
  "expr" (printf "min by (namespace, model) (proa_rollout_rollback_ready{%s}) == 0" $here)
  "summary" "{{ $labels.model }} could not go back in seconds: its previous release is not warm") }}
{{- $alerts = append $alerts (dict "name" "ProaEngineStalled" "for" "1m" "severity" "critical"
  "expr" (printf "sum by (namespace, pod) (vllm:num_requests_running{%s}) > 0 and sum by (namespace, pod) (increase(vllm:iteration_tokens_total_count{%s}[3m])) == 0" $all $all)
  "summary" "The engine in {{ $labels.pod }} has requests and makes no token") }}
{{- $alerts = append $alerts (dict "name" "ProaEngineFull" "for" "5m" "severity" "warning"
  "expr" (printf "sum by (namespace, model_name) (rate(vllm:admission_rejections_total{%s}[5m])) > 0" $all)
  "summary" "The engine {{ $labels.model_name }} turns requests away: its queue is full") }}
{{- $alerts = append $alerts (dict "name" "ProaBudgetNear" "for" "5m" "severity" "warning"
  "expr" (printf "max by (namespace, team) (proa_gateway_budget_used_ratio{%s}) > %v" $here $m.budgetNear)
  "summary" "Team {{ $labels.team }} has used {{ $value | humanizePercentage }} of its budget") }}
{{- $alerts = append $alerts (dict "name" "ProaGatewayDown" "for" "2m" "severity" "critical"
  "expr" (printf "absent(proa_gateway_routes_generation{%s})" $here)
  "summary" "No gateway is seen") }}
{{- $alerts = append $alerts (dict "name" "ProaLedgerBehind" "for" "10m" "severity" "warning"
  "expr" (printf "max by (namespace, pod) (proa_gateway_spool_backlog_bytes{%s}) > 6.7108864e+07" $here)
  "summary" "Calls wait in {{ $labels.pod }} for the ledger") }}
groups:
  - name: {{ .Release.Name }}.{{ .Release.Namespace }}
    rules:
      {{- range $alerts }}
      - alert: {{ .name }}
        expr: {{ .expr | quote }}
        for: {{ .for }}
        labels:
          severity: {{ .severity }}
        annotations:
          summary: {{ .summary | quote }}
          runbook_url: {{ printf "%s%s" $m.runbookBase (lower .name) | quote }}
      {{- end }}
{{- $models := .Files.Get "files/model-rules.yaml" | replace "__NAMESPACE__" .Release.Namespace | replace "__RUNBOOKS__" $m.runbookBase | fromYaml }}
  {{- toYaml $models.groups | nindent 2 }}
{{- end }}
