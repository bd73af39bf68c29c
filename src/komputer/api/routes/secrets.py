"""`/api/v1/secrets`: Secrets for the tools of agents. Values are never returned."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from ulid import ULID

from komputer.api.idempotency import request_id
from komputer.api.queries import boolean
from komputer.api.routes.shared import ERRORS, LARGE, Json, Namespace, NamespaceOrAll, answer, refusal
from komputer.api.schemas.responses import Deleted
from komputer.api.schemas.secrets import CreateSecret, SecretList, SecretNamed, SecretResponse, UpdateSecret
from komputer.api.state import rights_of, state_of
from komputer.kube import SECRETS
from komputer.services.access import AccessRequest

NOT_FOUND: Final = refusal(404, "There is no such Secret.")
CONFLICT: Final = refusal(409, "There is one of this name.")

router = APIRouter(prefix="/api/v1/secrets", tags=["secrets"], responses=ERRORS)


@router.get("", operation_id="list_secrets", response_model=SecretList)
async def list_secrets(
    request: Request,
    namespace: NamespaceOrAll,
    include_unmanaged: Annotated[
        str | None, Query(alias="all", description="`true`: also those that this API did not create.")
    ] = None,
) -> Json:
    """List the names and keys of the Secrets that this API created, and the agents that use them."""
    has_all = boolean("all", include_unmanaged)
    found = await state_of(request).secrets.list(namespace, include_unmanaged=has_all)
    if not namespace:
        right = AccessRequest("list", SECRETS)
        visible = await rights_of(request).visible(right, lambda: (view.namespace for view in found))
        found = [view for view in found if visible is None or view.namespace in visible]
    return answer(SecretList(secrets=found))


@router.post(
    "", operation_id="create_secret", status_code=201, response_model=SecretResponse, responses={**CONFLICT, **LARGE}
)
async def create_secret(request: Request, body: CreateSecret, namespace: Namespace) -> Json:
    """Create a Secret; agents whose `secretRefs` name it get its values."""
    created = await state_of(request).secrets.create(
        namespace, body.name, body.data, request_id(request) or str(ULID()), rights_of(request)
    )
    return answer(created, body, 201)


@router.patch("/{name}", operation_id="update_secret", response_model=SecretNamed, responses={**NOT_FOUND, **LARGE})
async def update_secret(request: Request, name: str, body: UpdateSecret, namespace: Namespace) -> Json:
    """Replace the complete data. Agents get the new values at their next task."""
    await state_of(request).secrets.replace(namespace, name, body.data)
    return answer(SecretNamed(name=name, namespace=namespace), body)


@router.delete("/{name}", operation_id="delete_secret", response_model=Deleted, responses=NOT_FOUND)
async def delete_secret(request: Request, name: str, namespace: Namespace) -> Json:
    """Delete a Secret. Agents that name it run their next task without it."""
    await state_of(request).secrets.delete(namespace, name)
    return answer(Deleted(status="deleted", name=name))
