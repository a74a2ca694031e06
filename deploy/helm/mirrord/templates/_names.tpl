{{- define "mirrord.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "mirrord.selector" -}}
app.kubernetes.io/name: mirrord
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mirrord.labels" -}}
{{ include "mirrord.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "mirrord.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "mirrord.settings" -}}
{{- $settings := dict }}
{{- with .Values.record }}{{ $_ := set $settings "record" . }}{{ end }}
{{- with .Values.blobs }}{{ $_ := set $settings "blobs" . }}{{ end }}
{{- if .Values.tokensSecret }}{{ $_ := set $settings "tokens" "/etc/mirrord/tokens" }}{{ end }}
{{- with $settings }}{{ dict "settings" . | toYaml }}{{ end }}
{{- end }}

{{- define "mirrord.webhook" -}}
webhook:
  listen: 0.0.0.0:8443
  names: [{{ include "mirrord.name" . }}-webhook.{{ .Release.Namespace }}.svc]
{{- if .Values.webhook.tlsSecret }}
  certificate: /etc/mirrord/webhook/tls.crt
  key: /etc/mirrord/webhook/tls.key
{{- end }}
{{- end }}
