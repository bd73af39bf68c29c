"""Converts Events between the two APIs that serve them: v1, in whose form they are stored, and events.k8s.io/v1, which
has other field names."""

from typing import Any

from komputer.local.apiserver.kinds import EVENT, NEW_EVENT, ResourceKind

Object = dict[str, Any]

_NEW_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_OLD_NAMES = {new: old for old, new in _NEW_NAMES.items()}


def stored_as(kind: ResourceKind) -> ResourceKind:
    """Return the kind under which objects of `kind` are stored."""
    return EVENT if kind is NEW_EVENT else kind


def to_served(kind: ResourceKind, body: Object) -> Object:
    """Return a stored object in the form of `kind`'s API."""
    if kind is not NEW_EVENT:
        return body
    return {_NEW_NAMES.get(key, key): value for key, value in body.items()} | {"apiVersion": NEW_EVENT.api_version}


def to_stored(kind: ResourceKind, body: Object) -> Object:
    """Return an object in stored form; the reverse of `to_served`."""
    if kind is not NEW_EVENT:
        return body
    return {_OLD_NAMES.get(key, key): value for key, value in body.items()} | {"apiVersion": EVENT.api_version}
