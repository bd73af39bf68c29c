"""Server-side printing: objects as the rows of `kubectl get`.

No library is used: kubectl's JSONPath is not that of RFC 9535, which JSONPath libraries implement, and its short ages
("3m10s", "5h") have their own rules.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from komputer.local.apiserver.kinds import ResourceKind, TableColumn

Object = dict[str, Any]

_NAME = TableColumn("Name", "string", ".metadata.name", format="name")
_AGE = TableColumn("Age", "string", ".metadata.creationTimestamp", format="age")
_COLUMNS: dict[str, tuple[TableColumn, ...]] = {
    "pods": (
        TableColumn("Ready", "string", "ready"),
        TableColumn("Status", "string", "status"),
        TableColumn("Restarts", "string", "restarts"),
        _AGE,
        TableColumn("IP", "string", ".status.podIP", 1),
        TableColumn("Node", "string", ".spec.nodeName", 1),
        TableColumn("Nominated Node", "string", ".status.nominatedNodeName", 1),
        TableColumn("Readiness Gates", "string", ".spec.readinessGates", 1),
    ),
    "namespaces": (TableColumn("Status", "string", ".status.phase"), _AGE),
    "configmaps": (TableColumn("Data", "integer", "data"), _AGE),
    "secrets": (TableColumn("Type", "string", ".type"), TableColumn("Data", "integer", "data"), _AGE),
    "persistentvolumeclaims": (
        TableColumn("Status", "string", ".status.phase"),
        TableColumn("Volume", "string", ".spec.volumeName"),
        TableColumn("Capacity", "string", ".status.capacity.storage"),
        TableColumn("Access Modes", "string", "access_modes"),
        TableColumn("StorageClass", "string", ".spec.storageClassName"),
        TableColumn("VolumeAttributesClass", "string", ".spec.volumeAttributesClassName"),
        _AGE,
        TableColumn("VolumeMode", "string", ".spec.volumeMode", 1),
    ),
    "serviceaccounts": (TableColumn("Secrets", "integer", "secrets"), _AGE),
    "events": (
        TableColumn("Last Seen", "string", "last_seen"),
        TableColumn("Type", "string", ".type"),
        TableColumn("Reason", "string", ".reason"),
        TableColumn("Object", "string", "involved_object"),
        TableColumn("Message", "string", "message"),
    ),
    "leases.coordination.k8s.io": (TableColumn("Holder", "string", ".spec.holderIdentity"), _AGE),
    "customresourcedefinitions.apiextensions.k8s.io": (
        TableColumn("Created At", "date", ".metadata.creationTimestamp"),
    ),
}
_ACCESS_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def rendered(
    kind: ResourceKind, objects: Sequence[Object], metadata: Object, include: str, *, header: bool = True
) -> Object:
    """Return a `Table` (meta.k8s.io/v1). `include` says what each row contains of its object: None, Metadata or
    Object."""
    columns = [_NAME, *(kind.columns if kind.custom else _COLUMNS.get(kind.resource, (_AGE,)))]
    now = datetime.now(UTC)
    rows = []
    for body in objects:
        row: Object = {"cells": [_cell(column, kind, body, now) for column in columns]}
        if include == "Object":
            row["object"] = body
        elif include != "None":
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": body["metadata"],
            }
        rows.append(row)
    definitions = [
        {
            "name": column.name,
            "type": column.type,
            "format": column.format if column.format != "age" else "",
            "description": column.description,
            "priority": column.priority,
        }
        for column in columns
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions if header else None,
        "rows": rows,
    }


def _cell(column: TableColumn, kind: ResourceKind, body: Object, now: datetime) -> Any:
    if not column.path.startswith("."):
        return _computed(column.path, body, now)
    found = values_at(body, column.path)
    if column.format == "age" or (kind.custom and column.type == "date"):
        return age(found[0], now) if found else "<unknown>" if column.format == "age" else None
    if kind.custom:
        return _typed(column.type, found[0]) if found else None
    return found[0] if found and found[0] is not None else "<none>" if kind.resource == "pods" else ""


def _typed(wanted: str, value: Any) -> Any:
    """Return the cell of a custom column: the value if it has the column's type, else None, as in the real server."""
    match wanted:
        case "integer" if isinstance(value, int | float):
            return int(value)
        case "number" if isinstance(value, int | float):
            return float(value)
        case "boolean" if isinstance(value, bool):
            return value
        case "string":
            return value if isinstance(value, str) else _as_text(value)
    return None


def _as_text(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return "[" + ",".join(f'"{one}"' if isinstance(one, str) else _as_text(one) for one in value) + "]"
        case dict():
            return "{" + ",".join(f'"{key}":{_as_text(one)}' for key, one in value.items()) + "}"
    return "" if value is None else str(value)


_STEP = re.compile(
    r"\.?(?P<field>[^.\[\]'\"]+)|\['(?P<quoted>[^']*)'\]|\[(?P<index>-?\d+|\*)\]|\[\?\(@\.(?P<filter>[^)]*)\)\]"
)


def values_at(body: Any, path: str) -> list[Any]:
    """Return the values at the JSONPath of a printer column. It may contain fields, ['keys'], [indexes], [*] and
    [?(@.field=="value")]."""
    values = [body]
    # An escaped dot (`metadata.labels.example\.com/x`) is part of a field's name. It is replaced by a NUL while the
    # path is split.
    for step in _STEP.finditer(path.replace("\\.", "\0")):
        field, index, condition = step["field"], step["index"], step["filter"]
        name = step["quoted"] if step["quoted"] is not None else field and field.replace("\0", ".")
        if name is not None:
            values = [value[name] for value in values if isinstance(value, dict) and name in value]
        elif index == "*":
            values = [
                one for value in values for one in (value.values() if isinstance(value, dict) else _listed(value))
            ]
        elif index is not None:
            values = [value[int(index)] for value in values if -len(_listed(value)) <= int(index) < len(_listed(value))]
        elif condition is not None:
            key, operator, wanted = condition.partition("==") if "==" in condition else condition.partition("!=")
            text = wanted.strip().strip("\"'")
            values = [
                one
                for value in values
                for one in _listed(value)
                if isinstance(one, dict) and (_as_text(one.get(key.strip())) == text) is (operator == "==")
            ]
    return values


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def age(timestamp: Any, now: datetime) -> str:
    """Return the time since `timestamp` in the form of `kubectl get`: 42s, 3m10s, 5h, 12d; `<unknown>` or
    `<invalid>`."""
    if not isinstance(timestamp, str):
        return "<unknown>"
    try:
        seconds = int((now - datetime.fromisoformat(timestamp)).total_seconds())
    except (ValueError, TypeError):
        return "<invalid>"
    if seconds < -1:
        return "<invalid>"
    seconds = max(seconds, 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 365 * 2:
        return f"{days}d"
    return f"{days // 365}y{days % 365}d" if days < 365 * 8 and days % 365 else f"{days // 365}y"


def _computed(name: str, body: Object, now: datetime) -> Any:
    match name:
        case "data":
            return len(body.get("data") or {}) + len(body.get("binaryData") or {})
        case "secrets":
            return len(body.get("secrets") or ())
        case "access_modes":
            return ",".join(
                _ACCESS_MODES.get(mode, mode) for mode in (body.get("status") or {}).get("accessModes") or ()
            )
        case "last_seen":
            moments = (body.get("lastTimestamp"), body.get("eventTime"), body.get("firstTimestamp"))
            return age(next((moment for moment in moments if moment), None), now)
        case "involved_object":
            involved = body.get("involvedObject") or body.get("regarding") or {}
            return f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"
        case "message":
            return str(body.get("message") or body.get("note") or "").strip()
    return _pod_cell(name, body, now)


def _pod_cell(name: str, body: Object, now: datetime) -> str:
    status = body.get("status") or {}
    containers = status.get("containerStatuses") or []
    match name:
        case "ready":
            ready = sum(bool(one.get("ready")) for one in containers)
            return f"{ready}/{len((body.get('spec') or {}).get('containers') or ())}"
        case "restarts":
            return str(sum(one.get("restartCount", 0) for one in containers))
    if "deletionTimestamp" in body["metadata"]:
        return "Terminating"
    reason = status.get("reason") or status.get("phase") or "Unknown"
    for one in reversed(containers):
        state = one.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated:
            signal = terminated.get("signal")
            reason = terminated.get("reason") or (
                f"Signal:{signal}" if signal else f"ExitCode:{terminated.get('exitCode')}"
            )
    return str(reason)
