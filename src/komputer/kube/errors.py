"""What the Kubernetes API refuses, in our errors: the one place where its answers are translated."""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from komputer.domain.errors import Conflict, Forbidden, Invalid, KomputerError, NotFound, Unavailable
from komputer.kube.kinds import NAMESPACES, Kind

NAMESPACE_NOT_FOUND: Final = "namespace_not_found"
KIND_MISSING: Final = "kind_missing"


class ResourceExpired(KomputerError):
    """The version asked for is no longer kept by the server: list again and watch from there."""

    code = "gone"


def refusal(
    code: int, status: dict[str, Any], what: str, kind: Kind, *, retry_after_s: int | None = None
) -> KomputerError:
    """The error for an answer with HTTP `code` and body `status` (a Kubernetes Status) to `what`, such as `get Pod
    team/ada-pod`, about an object of `kind`. Codes beyond those of the classes: Conflict `exists`; Invalid
    `namespace_not_found`; Unavailable `kind_missing` when the server does not know such objects at all; Forbidden
    `credential_refused` (401) and `namespace_terminating`; Invalid `too_large`."""
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
    """The Status in an answer's body; what is no Status (a proxy's page, plain text) becomes its message."""
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return status
    return {"message": body[:200].decode(errors="replace").strip()}


def is_failed_test(code: int, status: dict[str, Any], operations: Sequence[dict[str, Any]]) -> bool:
    """Whether a refused JSON patch was refused because the object is not as its `test`s say. The server says no more
    than 422 without causes, and the same when a path is missing: with a `test` in the patch, both mean that the
    object is another one than the caller had read."""
    causes = (status.get("details") or {}).get("causes")
    return code == 422 and not causes and any(operation["op"] == "test" for operation in operations)
