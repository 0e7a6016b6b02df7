{{- define "l3net.labels" -}}
app.kubernetes.io/name: l3net
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "l3net.selector" -}}
app.kubernetes.io/name: l3net
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "l3net.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "l3net.speakerImage" -}}
{{- if .Values.speaker.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.speaker.image.digest }}
{{- else if .Values.speaker.image.tag -}}
{{ .Values.image.repository }}:{{ .Values.speaker.image.tag }}
{{- else -}}
{{ include "l3net.image" . }}
{{- end -}}
{{- end -}}

{{- define "l3net.bfdImage" -}}
{{- if .Values.bfd.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.bfd.image.digest }}
{{- else if .Values.bfd.image.tag -}}
{{ .Values.image.repository }}:{{ .Values.bfd.image.tag }}
{{- else -}}
{{ include "l3net.image" . }}
{{- end -}}
{{- end -}}

{{- define "l3net.agentListens" -}}
host: {{ .Values.agent.metricsAddress | regexFind "^.*:" | trimSuffix ":" | trimAll "[]" | quote }}, port: {{ .Values.agent.metricsAddress | regexFind "[0-9]+$" }}
{{- end -}}

{{- define "l3net.apiServer" -}}
{{- if .Values.apiServer.host -}}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .Values.apiServer.host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .Values.apiServer.port | default "6443" | quote }}
{{- end }}
{{- end -}}
