"""Decodes request bodies in Kubernetes' protobuf encoding. Newer kubectl versions use it for objects that they create
by name (`kubectl create namespace NAME`), whatever the server offers.

Only the kinds that `kubectl create`, `auth` and `delete` send are decoded, with the field numbers of Kubernetes'
generated.proto files. All responses are JSON. The protobuf package would need the compiled descriptors of those files,
and its import takes almost as long as that of PyJWT (see `tokens.py`). This decoder has 60 lines.
"""

import base64
from collections.abc import Iterator
from typing import Any

from komputer.local.apiserver.errors import bad_request, unsupported_media

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

Message = dict[int, tuple[str, Any]]
"""Field number → name and type. A type is str, bytes, int, bool, "map" (of str), "bytes map", a Message, or a list of
one."""

_OWNER: Message = {
    1: ("kind", str),
    3: ("name", str),
    4: ("uid", str),
    5: ("apiVersion", str),
    6: ("controller", bool),
    7: ("blockOwnerDeletion", bool),
}
_META: Message = {
    1: ("name", str),
    2: ("generateName", str),
    3: ("namespace", str),
    5: ("uid", str),
    6: ("resourceVersion", str),
    11: ("labels", "map"),
    12: ("annotations", "map"),
    13: ("ownerReferences", [_OWNER]),
    14: ("finalizers", [str]),
}
_HEAD: Message = {1: ("metadata", _META)}
_RESOURCE: Message = dict(
    enumerate(((name, str) for name in ("namespace", "verb", "group", "version", "resource", "subresource", "name")), 1)
)
_ACCESS: Message = {
    1: ("resourceAttributes", _RESOURCE),
    2: ("nonResourceAttributes", {1: ("path", str), 2: ("verb", str)}),
}
_BOUND: Message = {1: ("kind", str), 2: ("apiVersion", str), 3: ("name", str), 4: ("uid", str)}
_TOKEN: Message = {1: ("audiences", [str]), 3: ("boundObjectRef", _BOUND), 4: ("expirationSeconds", int)}
_KINDS: dict[str, Message] = {
    "Namespace": _HEAD,
    "ConfigMap": _HEAD | {2: ("data", "map"), 3: ("binaryData", "bytes map"), 4: ("immutable", bool)},
    "Secret": _HEAD | {2: ("data", "bytes map"), 3: ("type", str), 4: ("stringData", "map"), 5: ("immutable", bool)},
    "ServiceAccount": _HEAD
    | {3: ("imagePullSecrets", [{1: ("name", str)}]), 4: ("automountServiceAccountToken", bool)},
    "TokenRequest": _HEAD | {2: ("spec", _TOKEN)},
    "SelfSubjectReview": _HEAD,
    "SelfSubjectAccessReview": _HEAD | {2: ("spec", _ACCESS)},
    "SelfSubjectRulesReview": _HEAD | {2: ("spec", {1: ("namespace", str)})},
    "DeleteOptions": {
        1: ("gracePeriodSeconds", int),
        2: ("preconditions", {1: ("uid", str), 2: ("resourceVersion", str)}),
        3: ("orphanDependents", bool),
        4: ("propagationPolicy", str),
        5: ("dryRun", [str]),
    },
}


def decoded(body: bytes) -> dict[str, Any]:
    """Return the object in an enveloped body. Raises StatusError 400 for a malformed body, 415 for a kind that is
    accepted as JSON only."""
    if not body.startswith(_MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        envelope = _read(
            body[len(_MAGIC) :], {1: ("type", {1: ("apiVersion", str), 2: ("kind", str)}), 2: ("raw", bytes)}
        )
        identity = envelope.get("type", {})
        if (message := _KINDS.get(identity.get("kind", ""))) is None:
            raise unsupported_media(f"the local API server reads {identity.get('kind')} as application/json only")
        return {**identity, **_read(base64.b64decode(envelope.get("raw", "")), message)}
    except (IndexError, UnicodeDecodeError, ValueError) as error:
        raise bad_request(f"the protobuf body cannot be read: {error}") from error


def _read(data: bytes, message: Message) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for number, value in _fields(data):
        if number not in message:
            continue
        name, kind = message[number]
        if isinstance(kind, list):
            result.setdefault(name, []).append(_value(value, kind[0]))
        elif kind in ("map", "bytes map"):
            entry = _read(_raw(value), {1: ("key", str), 2: ("value", str if kind == "map" else bytes)})
            result.setdefault(name, {})[entry.get("key", "")] = entry.get("value", "")
        elif (one := _value(value, kind)) != "":
            result[name] = one
    return result


def _value(value: int | bytes, kind: Any) -> Any:
    if kind is int or kind is bool:
        if not isinstance(value, int):
            raise ValueError("a number was expected")
        return bool(value) if kind is bool else value - (1 << 64) if value >> 63 else value
    if kind is str:
        return _raw(value).decode()
    if kind is bytes:
        return base64.b64encode(_raw(value)).decode()
    return _read(_raw(value), kind)


def _raw(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("text was expected")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message as (number, value). The value is an int for a varint, and bytes for a
    length-delimited field."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        match tag & 7:
            case 0:
                value, place = _varint(data, place)
                yield tag >> 3, value
            case 2:
                length, place = _varint(data, place)
                if place + length > len(data):
                    raise ValueError("unexpected end")
                yield tag >> 3, data[place : place + length]
                place += length
            case 1:
                place += 8
            case 5:
                place += 4
            case wire:
                raise ValueError(f"wire type {wire}")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        result |= (byte & 127) << shift
        if byte < 128:
            return result & 0xFFFFFFFFFFFFFFFF, place
    raise ValueError("a number is too long")
