"""What every route is made of: where it is about, what it may answer, and the parts that it asks."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Query, Request, Response

from komputer.api.access import AccessRequest
from komputer.api.auth import named_namespace, require
from komputer.api.schemas.agents import ErrorBody
from komputer.domain.errors import Conflict, Invalid
from komputer.kube import NAMESPACE_NOT_FOUND, NAMESPACES, Cluster
from komputer.services.agents.agents import Agents

Answers = dict[int | str, dict[str, Any]]


class Json(Response):
    """Bytes that are JSON already."""

    media_type = "application/json"


def refusal(status: int, description: str) -> Answers:
    """An error that a route may answer, for the OpenAPI document."""
    return {status: {"model": ErrorBody, "description": description}}


ERRORS: Final = {
    **refusal(400, "Something in the request is wrong; the sentence names the field."),
    **refusal(401, "Who calls is not known: a platform with access control wants a bearer token."),
    **refusal(403, "The caller may not do this."),
    **refusal(429, "The caller asks for too much at once; come again after Retry-After seconds."),
    **refusal(503, "Something we need is away; come again after Retry-After seconds."),
}
NO_AGENT: Final = refusal(404, "There is no such agent.")
BUSY: Final = refusal(409, "The agent's state forbids it.")
LARGE: Final = refusal(413, "The body is over 1 MiB.")


def agents(request: Request) -> Agents:
    found: Agents = request.app.state.agents
    return found


async def namespace_or_default(request: Request, namespace: Annotated[str | None, Query()] = None) -> str:
    """The namespace of a call about one object; without one, the server's default. `namespace` is for the OpenAPI
    document."""
    return await named_namespace(request) or request.app.state.settings.default_namespace


async def namespace_or_all(request: Request, namespace: Annotated[str | None, Query()] = None) -> str | None:
    """The namespace that a list is of; None: all. `namespace` is for the OpenAPI document."""
    return await named_namespace(request)


T = TypeVar("T")


async def in_namespace(request: Request, namespace: str, act: Callable[[], Awaitable[T]]) -> T:
    """What `act` returns, which creates something in `namespace`. Where that is missing, the platform is to make it and
    the caller may create namespaces, it is made first. Raises `Forbidden`."""
    try:
        return await act()
    except Invalid as missing:
        if missing.code != NAMESPACE_NOT_FOUND or not request.app.state.settings.makes_namespaces:
            raise
    await require(request, AccessRequest("create", NAMESPACES))
    cluster: Cluster = request.app.state.cluster
    with contextlib.suppress(Conflict):
        await cluster.create(NAMESPACES, {"metadata": {"name": namespace}})
    return await act()


Namespace = Annotated[str, Depends(namespace_or_default)]
NamespaceOrAll = Annotated[str | None, Depends(namespace_or_all)]
