"""`/api/v1/connectors` and `/api/v1/connector-templates`."""

from typing import Any

from fastapi import APIRouter, Request
from ulid import ULID

from komputer.api.auth import Sight, may_use, permission
from komputer.api.idempotency import request_id
from komputer.api.routes.shared import ERRORS, LARGE, Json, Namespace, NamespaceOrAll, in_namespace, refusal
from komputer.api.schemas.agents import Done
from komputer.api.schemas.connectors import (
    ConnectorList,
    ConnectorResponse,
    ConnectorTemplateList,
    CreateConnector,
    PatchConnector,
    ToolList,
)
from komputer.api.typos import warned
from komputer.kube import CONNECTORS, SECRETS
from komputer.services.agents.view import encoded
from komputer.services.connectors.connectors import Connectors
from komputer.services.connectors.templates import TEMPLATES
from komputer.services.connectors.tools import ToolListings

GONE = refusal(404, "There is no such connector.")
TAKEN = refusal(409, "The connector's state forbids it.")
FAILED = refusal(502, "The connector's server does not do its part; the code says how.")

router = APIRouter(prefix="/api/v1", tags=["connectors"], responses=ERRORS)


def connectors(request: Request) -> Connectors:
    found: Connectors = request.app.state.connectors
    return found


@router.post(
    "/connectors",
    operation_id="create_connector",
    status_code=201,
    response_model=ConnectorResponse,
    responses={**TAKEN, **LARGE},
)
async def create_connector(request: Request, body: CreateConnector, namespace: Namespace) -> Json:
    """Make a connector: an MCP server that agents may use. Its credential is a Secret; no answer ever holds it."""
    body.refuse_what_is_not_built()
    await may_use(request, SECRETS, namespace, [body.auth_secret_name] if body.auth_secret_name else None)
    spec, auth, made_for = body.spec(), body.auth(), request_id(request) or str(ULID())
    may = permission(request, namespace)
    made = await in_namespace(
        request, namespace, lambda: connectors(request).create(namespace, body.name, spec, auth, made_for, may)
    )
    return Json(encoded(await connectors(request).body(made) | warned(body)), 201)


@router.get("/connectors", operation_id="list_connectors", response_model=ConnectorList)
async def list_connectors(request: Request, namespace: NamespaceOrAll) -> Json:
    """Every connector, or those of one namespace, with the agents that name them now."""
    found = await connectors(request).bodies(namespace)
    if namespace is None:
        seen = await Sight(request, "list", CONNECTORS).among(lambda: (each["namespace"] for each in found))
        found = [each for each in found if seen is None or each["namespace"] in seen]
    return Json(encoded({"connectors": found}))


@router.get(
    "/connectors/{name}", operation_id="get_connector", response_model=ConnectorResponse, responses={**GONE, **TAKEN}
)
async def get_connector(request: Request, name: str, namespace: Namespace) -> Json:
    """One connector as it is now."""
    found = await connectors(request).one(namespace, name)
    return Json(encoded(await connectors(request).body(found)))


@router.patch(
    "/connectors/{name}",
    operation_id="update_connector",
    response_model=ConnectorResponse,
    responses={**GONE, **TAKEN, **LARGE},
)
async def update_connector(request: Request, name: str, body: PatchConnector, namespace: Namespace) -> Json:
    """Change a connector: all or nothing, at once for requests that come after it."""
    body.refuse_what_is_not_built()
    before = await connectors(request).one(namespace, name)
    changes = body.changes(before)
    ref = before.spec.auth_secret_key_ref
    if ref and body.token is None and changes.keys() & {"url", "headerName"}:
        # Who says where a credential is sent could as well read it.
        await may_use(request, SECRETS, namespace, [ref.name])
    changed = await connectors(request).change(namespace, name, changes, body.token, permission(request, namespace))
    return Json(encoded(await connectors(request).body(changed) | warned(body)))


@router.delete("/connectors/{name}", operation_id="delete_connector", response_model=Done, responses={**GONE, **TAKEN})
async def delete_connector(request: Request, name: str, namespace: Namespace) -> Json:
    """Delete a connector, with the Secret that was made for it. The answer names the agents that lose it."""
    losing = await connectors(request).delete(namespace, name)
    told: dict[str, Any] = {"status": "deleted", "name": name}
    return Json(encoded(told | ({"agentNames": losing} if losing else {})))


@router.get(
    "/connectors/{name}/tools",
    operation_id="list_connector_tools",
    response_model=ToolList,
    responses={**GONE, **TAKEN, **FAILED},
)
async def list_connector_tools(request: Request, name: str, namespace: Namespace) -> Json:
    """What the connector's server offers, asked now."""
    tools: ToolListings = request.app.state.tools
    return Json(encoded({"tools": await tools.of(await connectors(request).one(namespace, name))}))


@router.get("/connector-templates", operation_id="list_connector_templates", response_model=ConnectorTemplateList)
async def list_connector_templates() -> Json:
    """Servers that many people use, and what a form needs to ask for."""
    return Json(encoded({"templates": TEMPLATES}))
