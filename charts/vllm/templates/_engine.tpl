{{/* Arguments with an effect on the text: the engine's identity holds them, in any order. */}}
{{- define "engine.identityArgs" -}}
{{- $e := .Values.engine -}}
- --max-model-len={{ int $e.maxModelLen }}
- --dtype={{ $e.dtype }}
- --seed={{ int $e.seed }}
- --generation-config=vllm
{{- if $e.enforceEager }}
- --enforce-eager
{{- end }}
{{- if and (eq .Values.device "gpu") (gt (int .Values.gpu.count) 1) }}
- --tensor-parallel-size={{ int .Values.gpu.count }}
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | toJson }}
{{- end }}
{{- end }}

{{- define "engine.repository" -}}
{{ .Values.image.repository | default (ternary "vllm/vllm-openai" "vllm/vllm-openai-cpu" (eq .Values.device "gpu")) }}
{{- end }}

{{- define "engine.image" -}}
{{ include "proa.image" (dict "root" . "image" (merge (dict "repository" (include "engine.repository" .)) .Values.image)) }}
{{- end }}

{{/* The digest alone when there is one: a mirror's copy is the same engine. */}}
{{- define "engine.runtime" -}}
{{ .Values.image.digest | default (printf "%s:%s" (include "engine.repository" .) .Values.image.tag) }}
{{- end }}

{{/* As proa.embedded.engine.engine_identity: sha256 of canonical JSON. (dict "root" $ "adapter" DIGEST or "") */}}
{{- define "engine.identityOf" -}}
{{- $adapter := .adapter | default nil -}}
{{- $parts := dict "runtime" (include "engine.runtime" .root) "base_model" .root.Values.model.name "revision" .root.Values.model.revision "adapter" $adapter "arguments" (include "engine.identityArgs" .root | fromYamlArray | sortAlpha) -}}
eng-{{ toRawJson $parts | sha256sum | trunc 16 }}
{{- end }}

{{- define "engine.identity" -}}
{{ include "engine.identityOf" (dict "root" .) }}
{{- end }}

{{/* surge, inPlace or recreate: auto never asks for a GPU that may not be there. */}}
{{- define "engine.strategy" -}}
{{- $v := .Values -}}
{{- if ne $v.rollout.strategy "auto" }}{{ $v.rollout.strategy }}
{{- else if and (eq $v.device "cpu") (not (include "engine.singleWriter" .)) }}surge
{{- else if and $v.rollout.spareGpu (not (include "engine.singleWriter" .)) }}surge
{{- else }}inPlace{{ end }}
{{- end }}

{{/* A cache that only one node may mount. */}}
{{- define "engine.singleWriter" -}}
{{- if and .Values.cache.size (not .Values.cache.existingClaim) (ne .Values.cache.accessMode "ReadWriteMany") }}yes{{ end }}
{{- end }}

{{/* What a rollout costs, in a sentence; empty when nothing. */}}
{{- define "engine.downtime" -}}
{{- $strategy := include "engine.strategy" . -}}
{{- $pods := int (ternary .Values.autoscaling.minReplicas .Values.replicas .Values.autoscaling.enabled) -}}
{{- if eq $strategy "recreate" -}}
rollout.strategy is recreate: no engine answers while a rollout replaces the pods
{{- else if and (eq $strategy "inPlace") (lt $pods 2) -}}
one pod and no spare GPU: the engine does not answer during a rollout, up to {{ .Values.startup.timeoutSeconds }} s; replicas: 2 or rollout.spareGpu: true avoid that
{{- else if eq $strategy "inPlace" -}}
{{- end }}
{{- end }}

{{- define "engine.check" -}}
{{- $v := .Values -}}
{{- $given := list }}
{{- range $key := list "hub" "claim" "image" }}
{{- if index $v.model.source $key }}{{ $given = append $given $key }}{{ end }}
{{- end }}
{{- if ne (len $given) 1 }}
{{- fail (printf "model.source: expected exactly one of hub, claim and image, found %s" (join ", " $given | default "none")) }}
{{- end }}
{{- if and $v.model.source.hub (hasPrefix "sha256:" $v.model.revision) }}
{{- fail (printf "model.revision = %q: weights of the hub have a commit of 40 hex digits" $v.model.revision) }}
{{- end }}
{{- if and $v.model.source.hub $v.model.source.path }}
{{- fail "model.source.path has no meaning for weights of the hub: leave it empty" }}
{{- end }}
{{- $pods := int (ternary $v.autoscaling.maxReplicas $v.replicas $v.autoscaling.enabled) }}
{{- if and (include "engine.singleWriter" .) (or (gt $pods 1) (eq $v.rollout.strategy "surge")) }}
{{- fail (printf "cache.accessMode = %q: one node at a time can mount it, and %s; use ReadWriteMany, or neither cache.size nor cache.existingClaim" $v.cache.accessMode (ternary "rollout.strategy is surge" (printf "there may be %d pods" $pods) (eq $v.rollout.strategy "surge"))) }}
{{- end }}
{{- if and $v.lora.adapters (not $v.lora.claim) }}
{{- fail "lora.claim is empty: expected the claim that holds the adapters" }}
{{- end }}
{{- range $argument := $v.extraArgs }}
{{- range $flag, $key := dict "--served-model-name" "engine.identity" "--model" "model.source" "--revision" "model.revision" "--api-key" "apiKey.existingSecret" "--port" "nothing: it is 8000" "--host" "nothing: it is 0.0.0.0" "--max-model-len" "engine.maxModelLen" "--dtype" "engine.dtype" "--seed" "engine.seed" "--max-num-seqs" "engine.maxNumSeqs" "--gpu-memory-utilization" "engine.gpuMemoryUtilization" "--tensor-parallel-size" "gpu.count" "--shutdown-timeout" "drain.timeoutSeconds" "--lora-modules" "lora.adapters" "--enable-lora" "lora.adapters" "--enforce-eager" "engine.enforceEager" "--enable-prefix-caching" "engine.prefixCaching" "--no-enable-prefix-caching" "engine.prefixCaching" "--max-num-queued-reqs" "queue.maxRequests" "--max-num-queued-tokens" "queue.maxTokens" "--generation-config" "nothing: it is vllm" }}
{{- if eq (first (splitList "=" $argument)) $flag }}
{{- fail (printf "extraArgs: %s is set by %s" $argument $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- $identity := include "engine.identity" . }}
{{- if and $v.engine.identity (ne $v.engine.identity $identity) }}
{{- fail (printf "engine.identity = %q: these values make %s. Install it as a second release beside the first, or correct what changed" $v.engine.identity $identity) }}
{{- end }}
{{- include "engine.checkRunning" . }}
{{- if eq $v.device "gpu" }}{{ include "engine.checkCapacity" . }}{{ end }}
{{- end }}

{{/* Releases select engines by identity: an upgrade that changes it would take theirs away. */}}
{{- define "engine.checkRunning" -}}
{{- if and .Release.IsUpgrade (not .Values.engine.replaceIdentity) }}
{{- $there := lookup "apps/v1" "Deployment" .Release.Namespace .Values.model.name }}
{{- $old := dig "metadata" "labels" "proa.dev/engine" "" (default dict $there) }}
{{- $new := include "engine.identity" . }}
{{- if and $old (ne $old $new) }}
{{- fail (printf "the engine's identity would change from %s to %s, and releases that name the old one would find no engine: install the new one beside it (helm install %s-2 …), or set engine.replaceIdentity: true" $old $new .Release.Name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* surge needs free GPUs on one node for every rollout, or it waits for ever. Asked only on a real cluster. */}}
{{- define "engine.checkCapacity" -}}
{{- $v := .Values -}}
{{- $nodes := list }}
{{- if and (eq $v.rollout.strategy "surge") $v.rollout.checkCapacity }}
{{- $nodes = dig "items" list (default dict (lookup "v1" "Node" "" "")) }}
{{- end }}
{{- if $nodes }}
{{- $resource := $v.gpu.resource }}
{{- $used := dict }}
{{- range $pod := dig "items" list (default dict (lookup "v1" "Pod" "" "")) }}
{{- if and (dig "spec" "nodeName" "" $pod) (not (has (dig "status" "phase" "" $pod) (list "Succeeded" "Failed"))) }}
{{- range $container := $pod.spec.containers }}
{{- $asked := dig "resources" "limits" $resource 0 $container | int }}
{{- $_ := set $used $pod.spec.nodeName (add $asked (index $used $pod.spec.nodeName | default 0)) }}
{{- end }}
{{- end }}
{{- end }}
{{- $free := 0 }}
{{- range $node := $nodes }}
{{- if not (dig "spec" "unschedulable" false $node) }}
{{- $free = max $free (sub (dig "status" "allocatable" $resource 0 $node | int) (index $used $node.metadata.name | default 0)) }}
{{- end }}
{{- end }}
{{- $needed := int $v.gpu.count }}
{{- if not .Release.IsUpgrade }}{{ $needed = mul 2 $needed }}{{ end }}
{{- if lt (int $free) (int $needed) }}
{{- fail (printf "rollout.strategy: surge needs %d free %s on one node for a new pod beside the old one, the best node has %d: use auto or inPlace, or add a GPU" (int $needed) $resource (int $free)) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "engine.args" -}}
{{- $v := .Values -}}
{{- $identity := include "engine.identity" . -}}
{{- if $v.model.source.hub }}
- --model={{ $v.model.source.hub }}
- --revision={{ $v.model.revision }}
- --tokenizer-revision={{ $v.model.revision }}
{{- else }}
- --model={{ printf "/models/%s" ($v.model.source.path | trimPrefix "/") | trimSuffix "/" }}
{{- end }}
- --served-model-name={{ $identity }}
- --host=0.0.0.0
- --port=8000
{{ include "engine.identityArgs" . }}
- --{{ ternary "" "no-" $v.engine.prefixCaching }}enable-prefix-caching
- --max-num-seqs={{ int $v.engine.maxNumSeqs }}
{{- if eq $v.device "gpu" }}
- --gpu-memory-utilization={{ $v.engine.gpuMemoryUtilization }}
{{- end }}
{{- with $v.queue.maxRequests }}
- --max-num-queued-reqs={{ int . }}
{{- end }}
{{- with $v.queue.maxTokens }}
- --max-num-queued-tokens={{ int . }}
{{- end }}
{{- if $v.lora.adapters }}
- --enable-lora
- --max-lora-rank={{ int $v.lora.maxRank }}
- --max-loras={{ len $v.lora.adapters }}
- --lora-modules
{{- range $v.lora.adapters }}
- {{ dict "name" (include "engine.identityOf" (dict "root" $ "adapter" .digest)) "path" (printf "/adapters/%s" (.path | trimPrefix "/")) "base_model_name" $identity | toJson | quote }}
{{- end }}
{{- end }}
- --shutdown-timeout={{ include "engine.shutdownSeconds" . }}
- --disable-uvicorn-access-log
- --disable-fastapi-docs
{{- end }}

{{/* The preStop hook has waited for the answers: what is left is a margin, not the budget. */}}
{{- define "engine.shutdownSeconds" -}}
{{ min 10 (int .Values.drain.timeoutSeconds) }}
{{- end }}

{{- define "engine.env" -}}
{{- $v := .Values -}}
- name: USER
  value: vllm
- name: LOGNAME
  value: vllm
{{- range $name, $folder := dict "HF_HOME" "huggingface" "VLLM_CACHE_ROOT" "vllm" "XDG_CACHE_HOME" "xdg" "XDG_CONFIG_HOME" "config" "TRITON_CACHE_DIR" "triton" "TORCHINDUCTOR_CACHE_DIR" "inductor" "NUMBA_CACHE_DIR" "numba" "OUTLINES_CACHE_DIR" "outlines" }}
- name: {{ $name }}
  value: /cache/{{ $folder }}
{{- end }}
- name: VLLM_NO_USAGE_STATS
  value: "1"
- name: DO_NOT_TRACK
  value: "1"
- name: TOKENIZERS_PARALLELISM
  value: "false"
- name: VLLM_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ $v.apiKey.existingSecret }}
      key: {{ $v.apiKey.key }}
{{- if eq $v.device "cpu" }}
- name: VLLM_CPU_KVCACHE_SPACE
  value: {{ int $v.cpu.kvCacheGiB | quote }}
{{- end }}
{{- if not $v.model.source.hub }}
- name: HF_HUB_OFFLINE
  value: "1"
- name: TRANSFORMERS_OFFLINE
  value: "1"
{{- else if $v.hub.existingSecret }}
- name: HF_TOKEN_PATH
  value: /etc/proa/hub/{{ $v.hub.key }}
{{- end }}
{{- end }}

{{- define "engine.mounts" -}}
{{- $v := .Values -}}
- name: cache
  mountPath: /cache
- name: shm
  mountPath: /dev/shm
- name: probe
  mountPath: /opt/probe
  readOnly: true
{{- if not $v.model.source.hub }}
- name: models
  mountPath: /models
  readOnly: true
{{- else if $v.hub.existingSecret }}
- name: hub
  mountPath: /etc/proa/hub
  readOnly: true
{{- end }}
{{- if $v.lora.adapters }}
- name: adapters
  mountPath: /adapters
  readOnly: true
{{- end }}
{{- end }}

{{- define "engine.volumes" -}}
{{- $v := .Values -}}
- name: cache
  {{- if or $v.cache.existingClaim $v.cache.size }}
  persistentVolumeClaim:
    claimName: {{ $v.cache.existingClaim | default (printf "%s-cache" $v.model.name) }}
  {{- else }}
  emptyDir: {}
  {{- end }}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ $v.shm.size | default (ternary "16Gi" "1Gi" (and (eq $v.device "gpu") (gt (int $v.gpu.count) 1))) }}
- name: probe
  configMap:
    name: {{ include "engine.probeName" . }}
{{- with $v.model.source.claim }}
- name: models
  persistentVolumeClaim:
    claimName: {{ . }}
    readOnly: true
{{- end }}
{{- with $v.model.source.image }}
- name: models
  image:
    reference: {{ . }}
    pullPolicy: IfNotPresent
{{- end }}
{{- if and $v.model.source.hub $v.hub.existingSecret }}
{{ include "proa.secretVolume" (dict "name" "hub" "secret" $v.hub.existingSecret "keys" (list $v.hub.key)) }}
{{- end }}
{{- if $v.lora.adapters }}
- name: adapters
  persistentVolumeClaim:
    claimName: {{ $v.lora.claim }}
    readOnly: true
{{- end }}
{{- end }}

{{/* Named by its content, so that an undone revision finds what it was made with. */}}
{{- define "engine.probeName" -}}
{{ .Values.model.name }}-probe-{{ .Files.Get "files/engine_probe.py" | sha256sum | trunc 8 }}
{{- end }}

{{- define "engine.affinity" -}}
{{- if and (eq .Values.device "gpu") .Values.gpu.products }}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions:
          - key: {{ .Values.gpu.productLabel }}
            operator: In
            values:
              {{- toYaml .Values.gpu.products | nindent 14 }}
{{- end }}
{{- end }}
