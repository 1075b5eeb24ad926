{{/*
Names are fixed, not made from the release's: the operator knows the ClusterRole landfast-registry by its name, its
definitions exist once in a cluster, and what the README says of a cluster is true however landfast came into it.
*/}}

{{- define "landfast.selectorLabels" -}}
app.kubernetes.io/name: landfast
app.kubernetes.io/component: operator
{{- end }}

{{- define "landfast.labels" -}}
app.kubernetes.io/name: landfast
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "landfast.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
