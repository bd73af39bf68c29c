"""Kubernetes' own Events, which `kubectl describe` shows. Events of agents are in `komputer.events`."""

import secrets
from datetime import datetime

from komputer.kube.kinds import Manifest

LONGEST_MESSAGE: int = 1024
"""Maximum length of an Event's message in characters; the API server refuses longer ones."""


def event_manifest(
    regarding: Manifest, type: str, reason: str, message: str, component: str, now: datetime
) -> Manifest:
    """Return an Event about `regarding`, in its namespace (for cluster-scoped objects: `default`)."""
    metadata = regarding["metadata"]
    at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    reference = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion") if metadata.get(key)}
    return {
        "metadata": {
            "name": f"{metadata['name']}.{secrets.token_hex(8)}",
            "namespace": metadata.get("namespace", "default"),
        },
        "involvedObject": {"apiVersion": regarding["apiVersion"], "kind": regarding["kind"]} | reference,
        "type": type,
        "reason": reason,
        "message": message[:LONGEST_MESSAGE],
        "source": {"component": component},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }
