"""`/api/v1/secrets`: what agents' tools may be given. Values go in and never come out."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request
from ulid import ULID

from komputer.api.auth import Sight
from komputer.api.idempotency import request_id
from komputer.api.routes.shared import ERRORS, LARGE, Json, Namespace, NamespaceOrAll, agents, in_namespace, refusal
from komputer.api.schemas.agents import Done
from komputer.api.schemas.secrets import CreateSecret, SecretList, SecretNamed, SecretResponse, UpdateSecret
from komputer.api.typos import warned
from komputer.domain.errors import Invalid
from komputer.kube import SECRETS
from komputer.services.agents.secrets import shown_secret

GONE = refusal(404, "There is no such Secret.")
THERE = refusal(409, "There is one of this name.")

router = APIRouter(prefix="/api/v1/secrets", tags=["secrets"], responses=ERRORS)


@router.get("", operation_id="list_secrets", response_model=SecretList)
async def list_secrets(
    request: Request,
    namespace: NamespaceOrAll,
    include_unmanaged: Annotated[
        str | None, Query(alias="all", description="`true`: also those made otherwise.")
    ] = None,
) -> Json:
    """Names and keys of the Secrets that this API made, and which agents use them."""
    if (include_unmanaged or "false").lower() not in ("true", "false", "1", "0"):
        raise Invalid("all must be true or false", field="all")
    has_all = (include_unmanaged or "").lower() in ("true", "1")
    found = await agents(request).secrets.list(namespace, agents(request).manifests(), include_unmanaged=has_all)
    if not namespace:
        seen = await Sight(request, "list", SECRETS).among(lambda: (each["namespace"] for each in found))
        found = [each for each in found if seen is None or each["namespace"] in seen]
    return Json(orjson.dumps({"secrets": found}))


@router.post(
    "", operation_id="create_secret", status_code=201, response_model=SecretResponse, responses={**THERE, **LARGE}
)
async def create_secret(request: Request, body: CreateSecret, namespace: Namespace) -> Json:
    """Make a Secret; an agent gets it when its `secretRefs` name it."""
    made_for = request_id(request) or str(ULID())
    made = await in_namespace(
        request, namespace, lambda: agents(request).secrets.create(namespace, body.name, body.data, made_for)
    )
    return Json(orjson.dumps(shown_secret(made, agents(request).manifests()) | warned(body)), 201)


@router.patch("/{name}", operation_id="update_secret", response_model=SecretNamed, responses={**GONE, **LARGE})
async def update_secret(request: Request, name: str, body: UpdateSecret, namespace: Namespace) -> Json:
    """Replace all of its data. Agents get the new values at their next task."""
    await agents(request).secrets.replace(namespace, name, body.data)
    return Json(orjson.dumps({"name": name, "namespace": namespace} | warned(body)))


@router.delete("/{name}", operation_id="delete_secret", response_model=Done, responses=GONE)
async def delete_secret(request: Request, name: str, namespace: Namespace) -> Json:
    """Delete it. Agents that name it do without from their next task on."""
    await agents(request).secrets.delete(namespace, name)
    return Json(orjson.dumps({"status": "deleted", "name": name}))
