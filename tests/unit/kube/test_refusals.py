"""What the Kubernetes API refuses, in our errors. The bodies are those of kube-apiserver 1.33."""

from typing import Any

import pytest

from komputer.domain.errors import Conflict, Forbidden, Invalid, KomputerError, NotFound, Unavailable
from komputer.kube import AGENTS, ResourceExpired
from komputer.kube.errors import is_failed_test, refusal, status_of

WHAT = "get KomputerAgent team/ada"
DETAILS = {"name": "ada", "group": "komputer.komputer.ai", "kind": "komputeragents"}


def status(reason: str, message: str = "it said so", **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "details": details}


def refused(code: int, status: dict[str, Any], **more: Any) -> KomputerError:
    return refusal(code, status, WHAT, AGENTS, **more)


@pytest.mark.parametrize(
    ("code", "body", "error", "slug"),
    [
        (400, status("BadRequest"), Invalid, "invalid"),
        (401, status("Unauthorized"), Forbidden, "credential_refused"),
        (403, status("Forbidden", **DETAILS), Forbidden, "forbidden"),
        (403, status("Forbidden", causes=[{"reason": "NamespaceTerminating"}]), Forbidden, "namespace_terminating"),
        (404, status("NotFound", **DETAILS), NotFound, "not_found"),
        (404, status("NotFound", name="team", kind="namespaces"), Invalid, "namespace_not_found"),
        (404, status("NotFound"), Unavailable, "kind_missing"),
        (404, {"message": "404 page not found"}, Unavailable, "kind_missing"),
        (405, status("MethodNotAllowed"), Invalid, "invalid"),
        (409, status("AlreadyExists", **DETAILS), Conflict, "exists"),
        (409, status("Conflict", **DETAILS), Conflict, "conflict"),
        (410, status("Expired"), ResourceExpired, "gone"),
        (413, status("RequestEntityTooLarge"), Invalid, "too_large"),
        (422, status("Invalid", **DETAILS), Invalid, "invalid"),
        (429, status("TooManyRequests"), Unavailable, "unavailable"),
        (500, status("InternalError"), Unavailable, "unavailable"),
        (503, {}, Unavailable, "unavailable"),
        (504, status("Timeout"), Unavailable, "unavailable"),
    ],
)
def test_each_refusal_has_its_class_and_code(
    code: int, body: dict[str, Any], error: type[KomputerError], slug: str
) -> None:
    found = refused(code, body)
    assert type(found) is error
    assert found.code == slug
    assert "KomputerAgent team/ada" in found.message


def test_an_invalid_object_is_told_by_its_fields() -> None:
    causes = [
        {"reason": "FieldValueInvalid", "field": "spec.role", "message": "Unsupported value"},
        {"reason": "FieldValueRequired", "field": "spec.instructions", "message": "Required value"},
    ]
    found = refused(422, status("Invalid", causes=causes, **DETAILS))
    assert isinstance(found, Invalid)
    assert found.field == "spec.role"
    assert "spec.role: Unsupported value; spec.instructions: Required value" in found.message


def test_a_missing_right_is_named() -> None:
    said = 'User "bob" cannot get resource "komputeragents" in API group "komputer.komputer.ai" in the namespace "team"'
    assert said in refused(403, status("Forbidden", said, **DETAILS)).message


def test_the_server_says_when_to_come_again() -> None:
    found = refused(429, status("TooManyRequests"), retry_after_s=7)
    assert isinstance(found, Unavailable)
    assert found.retry_after_s == 7


def test_a_patch_whose_test_failed_is_known_by_its_bare_422() -> None:
    bare = status("Invalid", "the server rejected our request due to an error in our request")
    tests = [{"op": "test", "path": "/a", "value": 1}, {"op": "replace", "path": "/a", "value": 2}]
    assert is_failed_test(422, bare, tests)
    assert not is_failed_test(422, bare, tests[1:])
    assert not is_failed_test(422, status("Invalid", causes=[{"field": "spec.a"}]), tests)
    assert not is_failed_test(400, bare, tests)


def test_what_is_no_status_becomes_its_message() -> None:
    assert status_of(b"<html>bad gateway</html>") == {"message": "<html>bad gateway</html>"}
    assert status_of(b'["a"]') == {"message": '["a"]'}
    assert status_of(b'{"kind": "Status", "code": 404}') == {"kind": "Status", "code": 404}
