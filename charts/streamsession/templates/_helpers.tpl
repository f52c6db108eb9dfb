{{/* Names. */}}
{{- define "streamsession.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "streamsession.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := include "streamsession.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "streamsession.operator" -}}
{{- printf "%s-operator" (include "streamsession.fullname" .) }}
{{- end }}

{{/* Objects without a namespace are named after the release's too, so that two releases do not meet. */}}
{{- define "streamsession.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "streamsession.operator" .) }}
{{- end }}

{{- define "streamsession.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "streamsession.operator" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: name the service account to use, or let the chart make one (serviceAccount.create: true)" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Labels. Sessions have the name streamsession; what belongs to the operator has another, so that no selector takes both. */}}
{{- define "streamsession.selector" -}}
app.kubernetes.io/name: streamsession-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "streamsession.commonLabels" -}}
app.kubernetes.io/part-of: streamsession
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "streamsession.labels" -}}
{{ include "streamsession.selector" . }}
app.kubernetes.io/component: operator
{{ include "streamsession.commonLabels" . }}
{{- end }}

{{/* Of the Job that goes before an uninstall. */}}
{{- define "streamsession.guard" -}}
{{- printf "%s-uninstall" (include "streamsession.fullname" .) }}
{{- end }}

{{- define "streamsession.guardSelector" -}}
app.kubernetes.io/name: streamsession-uninstall
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "streamsession.guardLabels" -}}
{{ include "streamsession.guardSelector" . }}
app.kubernetes.io/component: uninstall
{{ include "streamsession.commonLabels" . }}
{{- end }}

{{/* Its account: one of its own where the chart makes accounts and rights, else the operator's. */}}
{{- define "streamsession.guardAccount" -}}
{{- if and .Values.serviceAccount.create .Values.rbac.create }}
{{- include "streamsession.guard" . }}
{{- else }}
{{- include "streamsession.serviceAccount" . }}
{{- end }}
{{- end }}

{{- define "streamsession.testLabels" -}}
app.kubernetes.io/name: streamsession-test
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{ include "streamsession.commonLabels" . }}
{{- end }}

{{/* An image: (dict "image" .Values.images.x "version" .Chart.AppVersion). */}}
{{- define "streamsession.image" -}}
{{- $tag := .image.tag | default .version }}
{{- if .image.digest }}
{{- printf "%s@%s" .image.repository .image.digest }}
{{- else }}
{{- printf "%s:%s" .image.repository $tag }}
{{- end }}
{{- end }}

{{/* What restricted Pod Security asks of a container. */}}
{{- define "streamsession.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "streamsession.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Where `helm test` happens, and against which session. */}}
{{- define "streamsession.testNamespace" -}}
{{- if .Values.test.namespace }}
{{- if and .Values.watchNamespaces (not (has .Values.test.namespace .Values.watchNamespaces)) }}
{{- fail (printf "test.namespace: the operator does not look after %s; name one of watchNamespaces (%s)" .Values.test.namespace (join ", " .Values.watchNamespaces)) }}
{{- end }}
{{- .Values.test.namespace }}
{{- else if .Values.watchNamespaces }}
{{- first .Values.watchNamespaces }}
{{- else }}
{{- .Release.Namespace }}
{{- end }}
{{- end }}

{{- define "streamsession.testSession" -}}
{{- default (printf "%s-test" (include "streamsession.fullname" .)) .Values.test.session }}
{{- end }}
