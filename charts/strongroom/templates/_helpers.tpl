{{- /* Names are fixed: the custom resources, the CSIDriver and the policies exist once in a cluster. */ -}}

{{- define "strongroom.selector" -}}
app.kubernetes.io/name: strongroom
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "strongroom.labels" -}}
{{ include "strongroom.selector" .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "strongroom.image" -}}
image: {{ printf "%s/%s:%s" .root.Values.image.prefix .program (.root.Values.image.tag | default .root.Chart.AppVersion) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
{{- end }}

{{- define "strongroom.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- define "strongroom.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
{{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- define "strongroom.resources" -}}
{{- with . }}
resources:
{{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* What the restricted Pod Security profile asks of a container, and a root file system that nobody writes. */ -}}
{{- define "strongroom.restricted" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "strongroom.probes" -}}
startupProbe:
  httpGet: {port: probes, path: /healthz}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 120
livenessProbe:
  httpGet: {port: probes, path: /healthz}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {port: probes, path: /readyz}
  periodSeconds: 2
  timeoutSeconds: 5
{{- end }}

{{- /* A token for the API server, in one container instead of in all of a pod. */ -}}
{{- define "strongroom.apiToken" -}}
projected:
  defaultMode: 0440
  sources:
  - serviceAccountToken: {expirationSeconds: 3607, path: token}
  - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
  - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}

{{- define "strongroom.keyServiceToken" -}}
projected:
  defaultMode: 0440
  sources:
  - serviceAccountToken:
      audience: {{ .Values.cluster.audience | quote }}
      expirationSeconds: 3600
      path: token
{{- end }}

{{- /* How the programs that ask the key service reach and know it. */ -}}
{{- define "strongroom.keyService" -}}
{{- if eq .Values.keyService.mode "InCluster" -}}
endpoints: [{{ printf "strongroom-key-service.%s.svc:8445" .Release.Namespace | quote }}]
caBundle: /etc/strongroom/ca/ca.crt
{{- else -}}
endpoints: {{ toJson .Values.keyService.endpoints }}
{{- if .Values.keyService.caBundle }}
caFile: /etc/strongroom/ca/ca.crt
{{- else }}
caSha256: {{ .Values.keyService.caSha256 | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Whether there is a root certificate to mount. */ -}}
{{- define "strongroom.mountsRoot" -}}
{{- if or (eq .Values.keyService.mode "InCluster") .Values.keyService.caBundle }}true{{ end }}
{{- end }}

{{- /* InCluster the key service writes that ConfigMap once it has been initialised; all pods are ready before. */ -}}
{{- define "strongroom.root" -}}
configMap:
{{- if eq .Values.keyService.mode "InCluster" }}
  name: strongroom-ca
  optional: true
{{- else }}
  name: strongroom-external-ca
{{- end }}
  items: [{key: ca.crt, path: ca.crt}]
{{- end }}

{{- define "strongroom.tokenSource" -}}
{{- if ne .Values.csiDriver.tokenSource "Auto" }}
{{- .Values.csiDriver.tokenSource }}
{{- else if semverCompare ">=1.35.0-0" .Capabilities.KubeVersion.Version }}
{{- "Secrets" }}
{{- else }}
{{- "VolumeContext" }}
{{- end }}
{{- end }}

{{- /* Whether the chart carries the root certificate itself. */ -}}
{{- define "strongroom.externalRoot" -}}
{{- if and (eq .Values.keyService.mode "External") .Values.keyService.caBundle }}true{{ end }}
{{- end }}
