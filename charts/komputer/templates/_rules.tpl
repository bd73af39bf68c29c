{{/* RBAC rules for namespaced objects. docs/security.md explains each verb; a test fails if one is unused. */}}
{{- define "komputer.rules.api" -}}
- {apiGroups: [komputer.komputer.ai], resources: [komputeragents, komputerconnectors], verbs: [get, list, watch, create, patch, delete]}
- {apiGroups: [komputer.komputer.ai], resources: [komputeragenttemplates], verbs: [list]}
- {apiGroups: [""], resources: [secrets], verbs: [get, list, create, patch, delete]}
{{- end }}
{{- define "komputer.rules.gateway" -}}
- {apiGroups: [komputer.komputer.ai], resources: [komputeragents], verbs: [get, list, watch, create, patch, delete]}
- {apiGroups: [komputer.komputer.ai], resources: [komputerconnectors], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [pods], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [secrets], verbs: [get]}
{{- end }}
{{- define "komputer.rules.operator" -}}
- {apiGroups: [komputer.komputer.ai], resources: [komputeragents], verbs: [get, list, watch]}
- {apiGroups: [komputer.komputer.ai], resources: [komputeragents/status, komputerconnectors/status, komputeragenttemplates/status], verbs: [patch]}
- {apiGroups: [komputer.komputer.ai], resources: [komputeragents/finalizers], verbs: [update]}
- {apiGroups: [komputer.komputer.ai], resources: [komputerconnectors, komputeragenttemplates], verbs: [list, watch]}
- {apiGroups: [""], resources: [pods], verbs: [get, list, watch, create, delete]}
- {apiGroups: [""], resources: [persistentvolumeclaims, configmaps], verbs: [get, list, watch, create, patch, delete]}
- {apiGroups: [""], resources: [serviceaccounts], verbs: [create]}
- {apiGroups: [""], resources: [events], verbs: [create]}
- {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [create, patch]}
{{- end }}
{{/* RBAC rules for cluster-scoped objects. */}}
{{- define "komputer.clusterRules.api" -}}
- {apiGroups: [komputer.komputer.ai], resources: [komputerconfigs], verbs: [list, watch]}
- {apiGroups: [komputer.komputer.ai], resources: [komputeragentclustertemplates], verbs: [list]}
- {apiGroups: [""], resources: [namespaces], verbs: [list{{ if .Values.api.createNamespaces }}, create{{ end }}]}
{{- if eq .Values.api.auth "kubernetes" }}
- {apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}
- {apiGroups: [authorization.k8s.io], resources: [subjectaccessreviews], verbs: [create]}
{{- end }}
{{- end }}
{{- define "komputer.clusterRules.gateway" -}}
- {apiGroups: [komputer.komputer.ai], resources: [komputerconfigs], verbs: [list, watch]}
- {apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}
{{- end }}
{{- define "komputer.clusterRules.operator" -}}
- {apiGroups: [komputer.komputer.ai], resources: [komputerconfigs, komputeragentclustertemplates], verbs: [list, watch]}
- {apiGroups: [komputer.komputer.ai], resources: [komputerconfigs/status, komputeragentclustertemplates/status], verbs: [patch]}
{{- end }}
