"""The rules of each built-in kind: its defaults, its validation, and the fields that may change."""

import base64
import binascii
import copy
import re
from collections.abc import Callable
from typing import Any

from komputer.local.apiserver.errors import FieldError, forbidden_field, invalid_value, required, unsupported
from komputer.local.apiserver.metadata import name_fault

Object = dict[str, Any]

_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_DATA_BYTES = 1024 * 1024


def prepare(resource: str, body: Object, before: Object | None, now: str) -> None:
    """Fill in `body` in place, as the real server does on a create (`before` is None) or an update."""
    if function := _PREPARE.get(resource):
        function(body, before)
    if resource in ("pods", "persistentvolumeclaims") and before is None:
        body["status"] = {"phase": "Pending", **({"qosClass": "BestEffort"} if resource == "pods" else {})}


def faults(resource: str, body: Object, before: Object | None) -> list[FieldError]:
    """Return what is wrong with `body` beyond its schema and metadata."""
    function = _FAULTS.get(resource)
    return function(body, before) if function else []


def undecodable(resource: str, body: Object) -> list[FieldError]:
    """Return the faults for which decoding fails in the real server: Secret data that is not base64."""
    found: list[FieldError] = []
    for key, value in (body.get("data") or {}).items() if resource == "secrets" else ():
        try:
            base64.b64decode(value or "", validate=True)
        except (binascii.Error, TypeError, ValueError):
            found.append(invalid_value(f"data[{key}]", "", "illegal base64 data"))
    return found


def deletion_grace_seconds(resource: str, body: Object, requested_seconds: int | None) -> int:
    """Return the grace period of a deletion in seconds. It is 0, which means deletion at once, for all objects except
    pods that a kubelet runs."""
    if resource != "pods":
        return 0
    status, spec = body.get("status") or {}, body.get("spec") or {}
    is_assigned = spec.get("nodeName") or status.get("startTime")
    if not is_assigned or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    if requested_seconds is None:
        return int(spec.get("terminationGracePeriodSeconds", 30))
    return max(requested_seconds, 0)


def _prepare_pod(body: Object, before: Object | None) -> None:
    spec = body.get("spec")
    if not isinstance(spec, dict):
        return
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("enableServiceLinks", True)
    account = spec.setdefault("serviceAccountName", spec.get("serviceAccount") or "default")
    spec["serviceAccount"] = account
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        image = str(container.get("image", ""))
        latest = image.endswith(":latest") or ":" not in image.rpartition("/")[2]
        container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
        limits = container["resources"].get("limits")
        if isinstance(limits, dict):
            container["resources"]["requests"] = {**limits, **(container["resources"].get("requests") or {})}
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")
        for variable in container.get("env") or ():
            if field := (variable.get("valueFrom") or {}).get("fieldRef"):
                field.setdefault("apiVersion", "v1")
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            if probe in container:
                for key, value in (
                    ("timeoutSeconds", 1),
                    ("periodSeconds", 10),
                    ("successThreshold", 1),
                    ("failureThreshold", 3),
                ):
                    container[probe].setdefault(key, value)
    for volume in spec.get("volumes") or ():
        if len(volume) == 1:
            volume["emptyDir"] = {}
        for kind in ("configMap", "secret", "projected", "downwardAPI"):
            if isinstance(volume.get(kind), dict):
                volume[kind].setdefault("defaultMode", 0o644)
        for source in (volume.get("projected") or {}).get("sources") or ():
            if isinstance(source.get("serviceAccountToken"), dict):
                source["serviceAccountToken"].setdefault("expirationSeconds", 3600)


def _pod_faults(body: Object, before: Object | None) -> list[FieldError]:
    spec = body.get("spec") or {}
    found: list[FieldError] = []
    containers = spec.get("containers") or []
    if not containers:
        found.append(required("spec.containers"))
    volumes = [volume.get("name", "") for volume in spec.get("volumes") or ()]
    found += _name_faults("spec.volumes", volumes)
    found += _name_faults("spec.containers", [container.get("name", "") for container in containers])
    for place, container in enumerate(containers):
        path = f"spec.containers[{place}]"
        if not container.get("image"):
            found.append(required(f"{path}.image"))
        for index, mount in enumerate(container.get("volumeMounts") or ()):
            if mount.get("name") not in volumes:
                text = f'Not found: "{mount.get("name")}"'
                found.append(FieldError("FieldValueNotFound", f"{path}.volumeMounts[{index}].name", text))
            if not mount.get("mountPath"):
                found.append(required(f"{path}.volumeMounts[{index}].mountPath"))
    if spec.get("restartPolicy") not in ("Always", "OnFailure", "Never"):
        found.append(unsupported("spec.restartPolicy", spec.get("restartPolicy"), ("Always", "OnFailure", "Never")))
    if before is not None and _fixed_part(body) != _fixed_part(before):
        text = (
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
            "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
            "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
        )
        found.append(forbidden_field("spec", text))
    return found


def _name_faults(path: str, names: list[str]) -> list[FieldError]:
    found = []
    for index, name in enumerate(names):
        if not name:
            found.append(required(f"{path}[{index}].name"))
        elif fault := name_fault(name, as_label=True):
            found.append(invalid_value(f"{path}[{index}].name", name, fault))
        if name in names[:index]:
            found.append(FieldError("FieldValueDuplicate", f"{path}[{index}].name", f'Duplicate value: "{name}"'))
    return found


def _fixed_part(pod: Object) -> Object:
    spec = copy.deepcopy(pod.get("spec") or {})
    for key in ("activeDeadlineSeconds", "tolerations"):
        spec.pop(key, None)
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        container.pop("image", None)
    return spec


def _prepare_secret(body: Object, before: Object | None) -> None:
    body.setdefault("type", before["type"] if before else "Opaque")
    texts = body.pop("stringData", None)
    if isinstance(texts, dict):
        encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in texts.items()}
        body["data"] = {**(body.get("data") or {}), **encoded}


def _secret_faults(body: Object, before: Object | None) -> list[FieldError]:
    found = _data_faults(body, ("data",), before, encoded=True)
    if before is not None and body["type"] != before["type"]:
        found.append(invalid_value("type", body["type"], "field is immutable"))
    return found


def _config_map_faults(body: Object, before: Object | None) -> list[FieldError]:
    found = _data_faults(body, ("data", "binaryData"), before)
    found += [
        invalid_value(f"data[{key}]", value, "must be a string") for key, value in (body.get("data") or {}).items()
        if not isinstance(value, str)
    ]  # fmt: skip
    return found


def _data_faults(
    body: Object, fields: tuple[str, ...], before: Object | None, *, encoded: bool = False
) -> list[FieldError]:
    found: list[FieldError] = []
    size = 0
    for field in fields:
        for key, value in (body.get(field) or {}).items():
            length = len(str(value).encode(errors="replace"))
            size += length * 3 // 4 if encoded or field == "binaryData" else length
            if not _DATA_KEY.fullmatch(key):
                text = (
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g."
                    " 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                )
                found.append(invalid_value(f"{field}[{key}]", key, text))
    if size > _DATA_BYTES:
        found.append(FieldError("FieldValueTooLong", "data", f"Too long: may not be more than {_DATA_BYTES} bytes"))
    if before is not None and before.get("immutable"):
        found += [
            forbidden_field(field, "field is immutable when `immutable` is set")
            for field in ("data", "binaryData", "immutable")
            if body.get(field) != before.get(field)
        ]
    return found


def _prepare_claim(body: Object, before: Object | None) -> None:
    if isinstance(spec := body.get("spec"), dict):
        spec.setdefault("volumeMode", "Filesystem")


def _claim_faults(body: Object, before: Object | None) -> list[FieldError]:
    spec = body.get("spec") or {}
    found: list[FieldError] = []
    if not spec.get("accessModes"):
        found.append(required("spec.accessModes", "at least 1 access mode is required"))
    if not ((spec.get("resources") or {}).get("requests") or {}).get("storage"):
        found.append(required("spec.resources[storage]"))
    if before is not None:
        old = before.get("spec") or {}
        bound = not old.get("volumeName")
        changed = {key for key in {*spec, *old} if spec.get(key) != old.get(key)} - {
            "resources",
            "volumeAttributesClassName",
        }
        if changed - ({"volumeName"} if bound else set()):
            text = (
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound"
                " claims"
            )
            found.append(forbidden_field("spec", text))
    return found


def _prepare_namespace(body: Object, before: Object | None) -> None:
    metadata = body["metadata"]
    metadata["labels"] = {**metadata.get("labels", {}), "kubernetes.io/metadata.name": metadata.get("name", "")}
    body["spec"] = (before or {}).get("spec") or {"finalizers": ["kubernetes"]}
    if before is None:
        body["status"] = {"phase": "Active"}


def _prepare_event(body: Object, before: Object | None) -> None:
    body.setdefault("source", {})
    body.setdefault(
        "reportingComponent", body["source"].get("component", "") if isinstance(body["source"], dict) else ""
    )
    body.setdefault("reportingInstance", "")
    for key in ("firstTimestamp", "lastTimestamp", "eventTime"):
        body.setdefault(key, None)


def _event_faults(body: Object, before: Object | None) -> list[FieldError]:
    involved = (body.get("involvedObject") or {}).get("namespace", "")
    namespace = body["metadata"].get("namespace", "")
    if involved != namespace and not (not involved and namespace == "default"):
        return [invalid_value("involvedObject.namespace", involved, "does not match event.namespace")]
    return []


_PREPARE: dict[str, Callable[[Object, Object | None], None]] = {
    "pods": _prepare_pod,
    "secrets": _prepare_secret,
    "persistentvolumeclaims": _prepare_claim,
    "namespaces": _prepare_namespace,
    "events": _prepare_event,
}
_FAULTS: dict[str, Callable[[Object, Object | None], list[FieldError]]] = {
    "pods": _pod_faults,
    "secrets": _secret_faults,
    "configmaps": _config_map_faults,
    "persistentvolumeclaims": _claim_faults,
    "events": _event_faults,
}
