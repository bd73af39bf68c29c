"""The kinds that are answered but never stored: TokenRequest, TokenReview and the access reviews."""

import base64
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from komputer.local.apiserver import metadata
from komputer.local.apiserver.builtin_schema import schema_of
from komputer.local.apiserver.errors import bad_request, invalid, invalid_value, unauthorized
from komputer.local.apiserver.kinds import ResourceKind
from komputer.local.apiserver.requests import ResourceRequest, read_json, refuse_method
from komputer.local.apiserver.responses import json_response
from komputer.local.apiserver.schema import conform, faults
from komputer.local.apiserver.store import Object
from komputer.local.apiserver.tokens import ADMIN, ISSUER, Tokens, User

REVIEWS = (
    "tokenreviews",
    "selfsubjectreviews",
    "subjectaccessreviews",
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
    "localsubjectaccessreviews",
)
TOKEN_REQUEST = ResourceKind("authentication.k8s.io", "v1", "TokenRequest", "tokenrequests", verbs=("create",))
SELF_REVIEWS = ("selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews")
"""Reviews that any authenticated user may ask for, since they are about that user."""


class Reviews:
    """Authentication and authorization. The administrator may do everything, any other user nothing."""

    def __init__(self, tokens: Tokens, admin_token: str) -> None:
        self._tokens = tokens
        self._admin_token = admin_token.encode()

    def authenticate(self, headers: Mapping[str, str]) -> User:
        """Return the user of the bearer token, or of the proxy password (see `write_kubeconfig`). Raises StatusError
        401. The administrator may impersonate another user (`kubectl --as`), who has no rights."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = _proxy_password(headers.get("proxy-authorization", ""))
        found = self._user(token.strip(), []) if token.strip() else None
        if not isinstance(found, tuple):
            raise unauthorized()
        user = found[0]
        if user.is_admin and (name := headers.get("impersonate-user")):
            group = headers.get("impersonate-group")
            return User(name, groups=(*([group] if group else []), "system:authenticated"))
        return user

    def _user(self, token: str, audiences: list[str]) -> tuple[User, list[str]] | str:
        if hmac.compare_digest(token.encode(errors="replace"), self._admin_token):
            matching = [one for one in audiences or [ISSUER] if one == ISSUER]
            return (ADMIN, matching) if matching else "[invalid bearer token]"
        return self._tokens.verify(token, audiences, datetime.now(UTC))

    async def token_request(self, call: ResourceRequest) -> Response:
        if call.request.method != "POST":
            raise refuse_method(call.target.kind, call.request.method, ("POST",))
        body = _body(await read_json(call.request), TOKEN_REQUEST)
        return json_response(self._tokens.issue(call.target.space, call.target.name, body, datetime.now(UTC)), 201)

    async def answer(self, call: ResourceRequest) -> Response:
        """Return the review with its status, as 201."""
        kind = call.target.kind
        if call.request.method != "POST" or call.target.name:
            raise refuse_method(kind, call.request.method, () if call.target.name else ("POST",))
        body = _body(await read_json(call.request), kind)
        spec = body.get("spec") or {}
        match kind.plural:
            case "tokenreviews":
                status = self._token_status(spec)
            case "selfsubjectreviews":
                status = {"userInfo": _user_info(call.user)}
            case "subjectaccessreviews" | "localsubjectaccessreviews":
                _check_question(kind, spec)
                allowed = spec.get("user") == ADMIN.username or "system:masters" in (spec.get("groups") or ())
                status = _access(bool(allowed))
            case "selfsubjectaccessreviews":
                status = _access(call.user.is_admin)
            case _:
                status = _rules(call.user.is_admin)
        meta = {**body["metadata"], "creationTimestamp": None}
        head = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}
        return json_response({**head, "spec": spec, "status": status}, 201)

    def _token_status(self, spec: Object) -> Object:
        token, audiences = spec.get("token"), spec.get("audiences") or []
        if not isinstance(token, str) or not token:
            raise bad_request("token is required for TokenReview in authentication")
        found = self._user(token, audiences)
        if isinstance(found, str):
            return {"user": {}, "error": found}
        user, matching = found
        return {"authenticated": True, "user": _user_info(user), "audiences": matching}


def _proxy_password(header: str) -> str:
    scheme, _, encoded = header.partition(" ")
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2] if scheme.lower() == "basic" else ""
    except ValueError:
        return ""


def _body(body: Any, kind: ResourceKind) -> Object:
    """Return the submitted review with its types checked. Raises StatusError 400."""
    if not isinstance(body, dict) or body.get("kind", kind.kind) != kind.kind:
        raise bad_request(f"the body must be a {kind.kind}")
    review: Object = {**conform(body, schema_of(kind)), "metadata": metadata.decoded(body)[0]}
    for fault in faults(review, schema_of(kind)):
        if fault.reason == "FieldValueTypeInvalid":
            raise bad_request(f"{kind.kind} cannot be handled: {fault.field}: {fault.message}")
    return review


def _check_question(kind: ResourceKind, spec: Object) -> None:
    found = []
    if not spec.get("resourceAttributes") and not spec.get("nonResourceAttributes"):
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        found.append(invalid_value("spec.resourceAttributes", None, text))
    if not spec.get("user") and not spec.get("groups"):
        found.append(invalid_value("spec.user", "", "at least one of user or group must be specified"))
    if found:
        raise invalid(kind.kind, kind.group, "", found)


def _user_info(user: User) -> Object:
    info: Object = {"username": user.username, "groups": list(user.groups)}
    return info | ({"uid": user.uid} if user.uid else {}) | ({"extra": user.extra} if user.extra else {})


def _access(allowed: bool) -> Object:
    return (
        {"allowed": True, "reason": "the local API server knows one administrator"} if allowed else {"allowed": False}
    )


def _rules(is_admin: bool) -> Object:
    everything = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}] if is_admin else []
    paths = [{"verbs": ["*"], "nonResourceURLs": ["*"]}] if is_admin else []
    return {"resourceRules": everything, "nonResourceRules": paths, "incomplete": False}
