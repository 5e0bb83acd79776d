{{/* What every object has. */}}
{{- define "mcpbouncer.metadata" -}}
labels: {{ include "mcpbouncer.selector" . }}
{{- end }}

{{/* What the sidecar's pods have, and nothing else of the release. */}}
{{- define "mcpbouncer.selector" -}}
{app.kubernetes.io/name: mcpbouncer, app.kubernetes.io/instance: {{ .Release.Name }}}
{{- end }}

{{/* A peer of network policies: Traefik. */}}
{{- define "mcpbouncer.traefik" -}}
- namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ .namespace }}}}
{{- with .podLabels }}
  podSelector: {matchLabels: {{ toRawJson . }}}
{{- end }}
{{- end }}

{{/* The port of a URL, or of nothing if it is none. */}}
{{- define "mcpbouncer.port" -}}
{{- $url := urlParse . -}}
{{- if regexMatch ":[0-9]+$" $url.host -}}
{{- regexFind "[0-9]+$" $url.host -}}
{{- else -}}
{{- get (dict "http" "80" "https" "443" "redis" "6379" "rediss" "6379") $url.scheme -}}
{{- end -}}
{{- end }}

{{/* Ports that the sidecar calls, as JSON: each once, in order. */}}
{{- define "mcpbouncer.ports" -}}
{{- $urls := list "https://" .Values.replayGuard (toString (get .Values.env "OTEL_EXPORTER_OTLP_ENDPOINT")) (toString (get .Values.env "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")) -}}
{{- range $name, $tenant := .Values.tenants -}}
{{- if $tenant -}}
{{- $urls = append $urls (toString (get (include "mcpbouncer.labels" (list $ $name) | fromJson) "providerIssuer")) -}}
{{- end -}}
{{- end -}}
{{- $ports := list -}}
{{- range $urls -}}
{{- $port := include "mcpbouncer.port" . -}}
{{- if and $port (not (has (int $port) $ports)) -}}
{{- $ports = append $ports (int $port) -}}
{{- end -}}
{{- end -}}
{{- toRawJson $ports -}}
{{- end }}

{{/* The labels of a tenant, as JSON, which keeps large numbers plain. */}}
{{- define "mcpbouncer.labels" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $sidecar := printf "http://%s.%s.svc:8080" $root.Release.Name $root.Release.Namespace -}}
{{- $labels := mustMergeOverwrite (dict "resource" $name) $root.Values.labels (get $root.Values.tenants $name).labels (dict "sidecarURL" $sidecar) -}}
{{- range list "providerIssuer" "clientID" "clientSecret" -}}
{{- if and (not (get $labels .)) (not (and (eq . "clientSecret") (eq (get $labels "clientAuth") "private_key_jwt"))) -}}
{{- fail (printf "tenants.%s.labels.%s: required" $name .) -}}
{{- end -}}
{{- end -}}
{{- /* Not by the schema: its errors show the value. */ -}}
{{- if not (regexMatch "^(env:.|mbs1_|$)" (get $labels "clientSecret" | default "")) -}}
{{- fail (printf "tenants.%s.labels.clientSecret: name a key of the Secret, as env:NAME, or give what `mcpbouncer seal-secret` prints: whoever may read a Middleware would read a secret that stands here" $name) -}}
{{- end -}}
{{- toRawJson $labels -}}
{{- end }}
