"""ObjectMeta: decoding and validation of names, labels, annotations, owners and finalizers.

The rules and messages are those of Kubernetes' `apimachinery`, which has no Python version.
"""

import random
import re
from typing import Any

from komputer.local.apiserver.errors import FieldError, bad_request, invalid_value, required

Object = dict[str, Any]

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_ANNOTATIONS_BYTES = 256 * 1024
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
FIELDS: dict[str, type] = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "uid": str,
    "resourceVersion": str,
    "creationTimestamp": str,
    "deletionTimestamp": str,
    "selfLink": str,
    "labels": dict,
    "annotations": dict,
    "ownerReferences": list,
    "finalizers": list,
    "managedFields": list,
    "generation": int,
    "deletionGracePeriodSeconds": int,
}
_OWNER_FIELDS: dict[str, type] = {
    "apiVersion": str,
    "kind": str,
    "name": str,
    "uid": str,
    "controller": bool,
    "blockOwnerDeletion": bool,
}


def decoded(body: Object) -> tuple[Object, list[str]]:
    """Return the ObjectMeta of `body` as a new dict without nulls, empty values and unknown fields, and the paths of
    the unknown fields. Raises StatusError 400 for a wrong type, as the real server does when decoding fails."""
    raw = body.get("metadata")
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise bad_request("metadata must be an object")
    metadata: Object = {}
    unknown: list[str] = []
    for key, value in raw.items():
        if key not in FIELDS:
            unknown.append(f"metadata.{key}")
            continue
        if value is None or key in ("managedFields", "selfLink"):
            continue
        if not isinstance(value, FIELDS[key]) or isinstance(value, bool):
            raise bad_request(f"metadata.{key}: cannot unmarshal into type {FIELDS[key].__name__}")
        if value == {} or value == [] or value == "":
            continue
        metadata[key] = value
    for key in ("labels", "annotations"):
        for name, value in metadata.get(key, {}).items():
            if value is None:
                metadata[key] = {**metadata[key], name: ""}
            elif not isinstance(value, str):
                raise bad_request(f"metadata.{key}.{name}: cannot unmarshal into type string")
    if not all(isinstance(one, str) for one in metadata.get("finalizers", ())):
        raise bad_request("metadata.finalizers: cannot unmarshal into type string")
    for reference in metadata.get("ownerReferences", ()):
        if not isinstance(reference, dict):
            raise bad_request("metadata.ownerReferences: cannot unmarshal into type OwnerReference")
        for key, value in reference.items():
            if value is not None and not isinstance(value, _OWNER_FIELDS.get(key, object)):
                raise bad_request(
                    f"metadata.ownerReferences.{key}: cannot unmarshal into type {_OWNER_FIELDS[key].__name__}"
                )
    if "ownerReferences" in metadata:
        metadata["ownerReferences"] = [
            {key: value for key, value in reference.items() if key in _OWNER_FIELDS and value is not None}
            for reference in metadata["ownerReferences"]
        ]
    if "finalizers" in metadata:
        metadata["finalizers"] = list(dict.fromkeys(metadata["finalizers"]))
    return metadata, unknown


def generated_name(base: str) -> str:
    """Return `base` with five random characters. The base is cut so that the name fits in a label."""
    return base[:58] + "".join(random.choices(_SUFFIX, k=5))


def name_fault(name: str, *, as_label: bool = False) -> str | None:
    """Return what is wrong with an object's name, in the real server's words, or None."""
    if as_label:
        if len(name) <= 63 and _LABEL_NAME.fullmatch(name):
            return None
        return (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start"
            " and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
            " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        )
    if len(name) > 253:
        return "must be no more than 253 characters"
    if _SUBDOMAIN.fullmatch(name):
        return None
    return (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start"
        " and end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
        " '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    )


def faults(metadata: Object, *, name_as_label: bool = False) -> list[FieldError]:
    """Return everything wrong with decoded ObjectMeta."""
    found: list[FieldError] = []
    name = metadata.get("name", "")
    if not name:
        found.append(required("metadata.name", "name or generateName is required"))
    elif fault := name_fault(name, as_label=name_as_label):
        found.append(invalid_value("metadata.name", name, fault))
    for key, value in metadata.get("labels", {}).items():
        if not is_qualified(key):
            found.append(invalid_value("metadata.labels", key, _QUALIFIED_WORDS))
        if value and (len(value) > 63 or not _QUALIFIED.fullmatch(value)):
            found.append(invalid_value("metadata.labels", value, _LABEL_WORDS))
    annotations = metadata.get("annotations", {})
    found += [
        invalid_value("metadata.annotations", key, _QUALIFIED_WORDS)
        for key in annotations
        if not is_qualified(key.lower())
    ]
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _ANNOTATIONS_BYTES:
        text = f"Too long: may not be more than {_ANNOTATIONS_BYTES} bytes"
        found.append(FieldError("FieldValueTooLong", "metadata.annotations", text))
    for finalizer in metadata.get("finalizers", ()):
        if not is_qualified(finalizer):
            found.append(invalid_value("metadata.finalizers", finalizer, _QUALIFIED_WORDS))
    for reference in metadata.get("ownerReferences", ()):
        found += [
            invalid_value(f"metadata.ownerReferences.{key}", reference.get(key, ""), "must not be empty")
            for key in ("apiVersion", "kind", "name", "uid")
            if not reference.get(key)
        ]
    if sum(bool(reference.get("controller")) for reference in metadata.get("ownerReferences", ())) > 1:
        found.append(
            invalid_value(
                "metadata.ownerReferences", "controller", "Only one reference can have Controller set to true"
            )
        )
    return found


_LABEL_WORDS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must"
    " start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for"
    " validation is"
    " '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_QUALIFIED_WORDS = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
    " alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    " '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


def is_qualified(key: str) -> bool:
    """Return whether `key` is a qualified name: an optional DNS subdomain, a slash, and a name of at most 63
    characters."""
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix)):
        return False
    return len(name) <= 63 and bool(_QUALIFIED.fullmatch(name))
