"""Parts that the routes share: parameters, the errors that they document, and JSON responses."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import orjson
from fastapi import Depends, Query, Request, Response

from komputer.api.auth import requested_namespace
from komputer.api.schemas.agents import Body
from komputer.api.schemas.responses import ErrorBody
from komputer.api.state import state_of
from komputer.api.typos import warnings_about
from komputer.domain.base import WireModel

Answers = dict[int | str, dict[str, Any]]


class Json(Response):
    """A response whose content is JSON already."""

    media_type = "application/json"


def answer(
    content: WireModel, body: Body | None = None, status: int = 200, headers: Mapping[str, str] | None = None
) -> Json:
    """Return the response with `content`, and with `warnings` about fields of the request's `body`."""
    warnings = warnings_about(body)
    fields = content.to_wire() | ({"warnings": warnings} if warnings else {})
    return Json(orjson.dumps(fields), status, headers)


def refusal(status: int, description: str) -> Answers:
    """Return the documentation of an error that a route may answer."""
    return {status: {"model": ErrorBody, "description": description}}


ERRORS: Final = {
    **refusal(400, "The request is invalid; the sentence names the field."),
    **refusal(401, "The caller is unknown: a platform with access control needs a bearer token."),
    **refusal(403, "The caller lacks a right."),
    **refusal(429, "The caller sends too many requests; try again after `Retry-After` seconds."),
    **refusal(503, "Something that the platform needs is away; try again after `Retry-After` seconds."),
}
NO_AGENT: Final = refusal(404, "There is no such agent.")
BUSY: Final = refusal(409, "The agent's state forbids it.")
LARGE: Final = refusal(413, "The body is over 1 MiB.")


async def namespace_or_default(request: Request, namespace: Annotated[str | None, Query()] = None) -> str:
    """The namespace of a request about one object; without one, the server's default. The parameter `namespace` is for
    the OpenAPI document."""
    return await requested_namespace(request) or state_of(request).settings.default_namespace


async def namespace_or_all(request: Request, namespace: Annotated[str | None, Query()] = None) -> str | None:
    """The namespace of a list; None: all. The parameter `namespace` is for the OpenAPI document."""
    return await requested_namespace(request)


Namespace = Annotated[str, Depends(namespace_or_default)]
NamespaceOrAll = Annotated[str | None, Depends(namespace_or_all)]
