"""Kubernetes' own Events: what `kubectl describe` shows under an object. Not the events of agents."""

import secrets
from datetime import datetime

from komputer.kube.kinds import Manifest

LONGEST_MESSAGE: int = 1024
"""Characters; the API server refuses more."""


def event_manifest(
    regarding: Manifest, type: str, reason: str, message: str, component: str, now: datetime
) -> Manifest:
    """An Event about `regarding`, in its namespace (for cluster-scoped objects in `default`)."""
    about = regarding["metadata"]
    at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    reference = {key: about[key] for key in ("name", "namespace", "uid", "resourceVersion") if about.get(key)}
    return {
        "metadata": {"name": f"{about['name']}.{secrets.token_hex(8)}", "namespace": about.get("namespace", "default")},
        "involvedObject": {"apiVersion": regarding["apiVersion"], "kind": regarding["kind"]} | reference,
        "type": type,
        "reason": reason,
        "message": message[:LONGEST_MESSAGE],
        "source": {"component": component},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }
