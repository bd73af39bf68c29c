"""Translates error responses of the Kubernetes API into our errors. No other module does this."""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from komputer.domain.errors import Conflict, Forbidden, Invalid, KomputerError, NotFound, Unavailable
from komputer.kube.kinds import NAMESPACES, Kind

NAMESPACE_NOT_FOUND: Final = "namespace_not_found"
KIND_MISSING: Final = "kind_missing"


class ResourceExpired(KomputerError):
    """The server no longer has the requested resource version: list again, and watch from there."""

    code = "gone"


def refusal(
    code: int, status: dict[str, Any], what: str, kind: Kind, *, retry_after_s: int | None = None
) -> KomputerError:
    """Return the error for a response with HTTP status `code` and body `status` (a Kubernetes Status). `what` is the
    request in words, such as `get Pod team/ada-pod`; `kind` is the kind of its object.

    Some errors have another code than that of their class: Conflict `exists`; Invalid `namespace_not_found` and
    `too_large`; Unavailable `kind_missing` if the server has no such kind; Forbidden `credential_refused` (401) and
    `namespace_terminating`.
    """
    details = status.get("details") or {}
    causes: Sequence[dict[str, Any]] = details.get("causes") or ()
    said = str(status.get("message") or f"HTTP {code}")
    message = f"The Kubernetes API refused to {what}: {said}"
    match code, status.get("reason"):
        case 401, _:
            return Forbidden(
                f"The Kubernetes API did not accept our credential to {what}: {said}", code="credential_refused"
            )
        case 403, _:
            ending = any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
            return Forbidden(message, code="namespace_terminating" if ending else None)
        case 404, "NotFound" if details.get("kind") == "namespaces" and kind != NAMESPACES:
            return Invalid(
                f"Cannot {what}: {said}; make the namespace first", code=NAMESPACE_NOT_FOUND, field="namespace"
            )
        case 404, "NotFound" if details.get("name"):
            return NotFound(f"Cannot {what}: it does not exist")
        case 404, _:
            return Unavailable(
                f"Cannot {what}: the Kubernetes API does not know such objects; install the resource definitions",
                code=KIND_MISSING,
            )
        case 409, "AlreadyExists":
            return Conflict(f"Cannot {what}: it exists already", code="exists")
        case 409, _:
            return Conflict(message)
        case 410, _:
            return ResourceExpired(f"Cannot {what}: {said}")
        case 413, _:
            return Invalid(message, code="too_large")
        case 429, _:
            return Unavailable(message, retry_after_s=retry_after_s or 1)
        case _ if code >= 500:
            return Unavailable(message, retry_after_s=retry_after_s or 2)
        case _:
            wrong = "; ".join(f"{cause['field']}: {cause.get('message', '')}" for cause in causes if cause.get("field"))
            fields = [str(cause["field"]) for cause in causes if cause.get("field")]
            return Invalid(f"Cannot {what}: {wrong or said}", field=fields[0] if fields else None)


def status_of(body: bytes) -> dict[str, Any]:
    """Return the Status in the body of a response. Any other body (a proxy's page, plain text) becomes the message of a
    Status."""
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return status
    return {"message": body[:200].decode(errors="replace").strip()}


def is_failed_test(code: int, status: dict[str, Any], operations: Sequence[dict[str, Any]]) -> bool:
    """Return whether a JSON patch was refused because one of its `test`s failed. The server then answers 422 without
    causes, as it does for a path that is missing. In a patch with a `test`, both mean that the object has changed since
    the caller read it."""
    causes = (status.get("details") or {}).get("causes")
    return code == 422 and not causes and any(operation["op"] == "test" for operation in operations)
