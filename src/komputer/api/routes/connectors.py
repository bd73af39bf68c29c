"""`/api/v1/connectors` and `/api/v1/connector-templates`."""

from typing import Final

from fastapi import APIRouter, Request
from ulid import ULID

from komputer.api.idempotency import request_id
from komputer.api.routes.shared import ERRORS, LARGE, Json, Namespace, NamespaceOrAll, answer, refusal
from komputer.api.schemas.connectors import (
    ConnectorDeleted,
    ConnectorList,
    ConnectorResponse,
    ConnectorTemplateList,
    CreateConnector,
    PatchConnector,
    ToolList,
)
from komputer.api.state import rights_of, state_of
from komputer.kube import CONNECTORS
from komputer.services.access import AccessRequest
from komputer.services.connectors.connectors import NewConnector
from komputer.services.connectors.templates import TEMPLATES

NOT_FOUND: Final = refusal(404, "There is no such connector.")
CONFLICT: Final = refusal(409, "The connector's state forbids it.")
SERVER_FAILED: Final = refusal(502, "The connector's server failed; the code says how.")

router = APIRouter(prefix="/api/v1", tags=["connectors"], responses=ERRORS)


@router.post(
    "/connectors",
    operation_id="create_connector",
    status_code=201,
    response_model=ConnectorResponse,
    responses={**CONFLICT, **LARGE},
)
async def create_connector(request: Request, body: CreateConnector, namespace: Namespace) -> Json:
    """Create a connector: an MCP server that agents may use. Its credential is kept in a Secret, never returned."""
    body.refuse_unsupported()
    services = state_of(request).connectors
    new = NewConnector(
        namespace=namespace,
        name=body.name,
        spec=body.spec(),
        auth=body.auth(),
        request_id=request_id(request) or str(ULID()),
    )
    created = await services.connectors.create(new, rights_of(request))
    return answer(await services.reader.view(created), body, 201)


@router.get("/connectors", operation_id="list_connectors", response_model=ConnectorList)
async def list_connectors(request: Request, namespace: NamespaceOrAll) -> Json:
    """List all connectors, or those of one namespace, with the agents that name them now."""
    found = await state_of(request).connectors.reader.views(namespace)
    if namespace is None:
        right = AccessRequest("list", CONNECTORS)
        visible = await rights_of(request).visible(right, lambda: (view.namespace for view in found))
        found = [view for view in found if visible is None or view.namespace in visible]
    return answer(ConnectorList(connectors=found))


@router.get(
    "/connectors/{name}",
    operation_id="get_connector",
    response_model=ConnectorResponse,
    responses={**NOT_FOUND, **CONFLICT},
)
async def get_connector(request: Request, name: str, namespace: Namespace) -> Json:
    """Return a connector as of now."""
    reader = state_of(request).connectors.reader
    return answer(await reader.view(await reader.one(namespace, name)))


@router.patch(
    "/connectors/{name}",
    operation_id="update_connector",
    response_model=ConnectorResponse,
    responses={**NOT_FOUND, **CONFLICT, **LARGE},
)
async def update_connector(request: Request, name: str, body: PatchConnector, namespace: Namespace) -> Json:
    """Change a connector: all or nothing, with effect from the next request to its server."""
    body.refuse_unsupported()
    services = state_of(request).connectors
    changes = body.changes(await services.reader.one(namespace, name))
    changed = await services.connectors.change(namespace, name, changes, body.token, rights_of(request))
    return answer(await services.reader.view(changed), body)


@router.delete(
    "/connectors/{name}",
    operation_id="delete_connector",
    response_model=ConnectorDeleted,
    responses={**NOT_FOUND, **CONFLICT},
)
async def delete_connector(request: Request, name: str, namespace: Namespace) -> Json:
    """Delete a connector, with the Secret that was created for it. The answer names the agents that lose it."""
    agents = await state_of(request).connectors.connectors.delete(namespace, name)
    return answer(ConnectorDeleted(status="deleted", name=name, agent_names=agents or None))


@router.get(
    "/connectors/{name}/tools",
    operation_id="list_connector_tools",
    response_model=ToolList,
    responses={**NOT_FOUND, **CONFLICT, **SERVER_FAILED},
)
async def list_connector_tools(request: Request, name: str, namespace: Namespace) -> Json:
    """List the tools that the connector's server offers now."""
    services = state_of(request).connectors
    return answer(ToolList(tools=await services.tools.of(await services.reader.one(namespace, name))))


@router.get("/connector-templates", operation_id="list_connector_templates", response_model=ConnectorTemplateList)
async def list_connector_templates() -> Json:
    """List well-known servers, and what a form must ask for."""
    return answer(ConnectorTemplateList(templates=list(TEMPLATES)))
