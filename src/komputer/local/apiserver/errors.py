"""Errors in the form of Kubernetes: a `Status` object with code, reason, message and, for invalid fields, their
paths."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class StatusError(Exception):
    """A refused request. `code` is the HTTP status, `status()` the body of the response."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def status(self) -> dict[str, Any]:
        """Return the `Status` object (v1)."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status


@dataclass(frozen=True, slots=True)
class FieldError:
    """One invalid field. `reason` is a Kubernetes cause (`FieldValueInvalid`, …), `message` the text without the
    path."""

    reason: str
    field: str
    message: str


def invalid_value(field: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", field, f"Invalid value: {quoted(value)}: {detail}")


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", field, f"Required value: {detail}" if detail else "Required value")


def forbidden_field(field: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", field, f"Forbidden: {detail}")


def unsupported(field: str, value: Any, supported: Sequence[Any]) -> FieldError:
    names = ", ".join(quoted(one) for one in supported)
    return FieldError("FieldValueNotSupported", field, f"Unsupported value: {quoted(value)}: supported values: {names}")


def quoted(value: Any) -> str:
    """Return a value as it appears in messages: JSON, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else text[:200] + "..."


_REASONS = {400: "BadRequest", 408: "Timeout", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}


def as_status(status: int, sentence: str, code: str) -> bytes:
    """Return the `Status` of an error that the HTTP server sends below the application; `code` becomes its cause."""
    details = {"causes": [{"reason": code, "message": sentence}]}
    error = StatusError(status, _REASONS.get(status, "BadRequest"), sentence, details)
    return json.dumps(error.status()).encode()


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(resource: str, name: str, why: str, causes: list[dict[str, str]] | None = None) -> StatusError:
    details = _details(resource, name)
    if causes:
        details["causes"] = causes
    return StatusError(403, "Forbidden", f"{_title(resource, name)} is forbidden: {why}", details)


def not_found(resource: str, name: str) -> StatusError:
    return StatusError(404, "NotFound", f"{_title(resource, name)} not found", _details(resource, name))


def no_such_path() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource")


class NotAllowed(StatusError):
    """The error 405. `allow` lists the methods that the path has."""

    def __init__(self, message: str, allow: Sequence[str]) -> None:
        super().__init__(405, "MethodNotAllowed", message)
        self.allow = ", ".join(["HEAD", *allow] if "GET" in allow else allow)


def not_allowed(message: str, allow: Sequence[str] = ()) -> StatusError:
    return NotAllowed(message, allow)


def not_offered(subresource: str) -> StatusError:
    """Return the error that `kubectl exec`, `cp`, `attach` and `port-forward` print."""
    return StatusError(501, "NotImplemented", f"pods/{subresource} is not offered on one machine: {_INSTEAD}")


_INSTEAD = (
    "its pods are processes of this machine. An agent's files lie in volumes/ of the data directory, its output in"
    " logs/pods/ (kubectl logs), and what it listens on is on 127.0.0.1"
)


def already_exists(resource: str, name: str) -> StatusError:
    return StatusError(409, "AlreadyExists", f"{_title(resource, name)} already exists", _details(resource, name))


def conflict(resource: str, name: str, why: str) -> StatusError:
    message = f"Operation cannot be fulfilled on {_title(resource, name)}: {why}"
    return StatusError(409, "Conflict", message, _details(resource, name))


STALE = "the object has been modified; please apply your changes to the latest version and try again"


def not_acceptable() -> StatusError:
    message = "only the following media types are accepted: application/json"
    return StatusError(406, "NotAcceptable", message)


def expired(message: str) -> StatusError:
    return StatusError(410, "Expired", message)


def unsupported_media(message: str) -> StatusError:
    return StatusError(415, "UnsupportedMediaType", message)


def invalid(kind: str, group: str, name: str, errors: Sequence[FieldError]) -> StatusError:
    """Return the error 422, with every invalid field in `details.causes`. `kind` is without its group, as in the real
    server's message."""
    texts = [f"{error.field}: {error.message}" if error.field else error.message for error in errors]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    causes = [{"reason": error.reason, "message": error.message, "field": error.field} for error in errors]
    details: dict[str, Any] = {"name": name, "kind": kind, "causes": causes}
    if group:
        details["group"] = group
    return StatusError(
        422, "Invalid", f"{_title(f'{kind}.{group}' if group else kind, name)} is invalid: {listed}", details
    )


def _title(resource: str, name: str) -> str:
    return f'{resource} "{name}"'


def _details(resource: str, name: str) -> dict[str, Any]:
    plural, _, group = resource.partition(".")
    details: dict[str, Any] = {"name": name, "kind": plural}
    if group:
        details["group"] = group
    return details
