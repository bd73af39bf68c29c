"""`/api/v1/namespaces` and `/api/v1/templates`: the values that a client may choose from."""

from fastapi import APIRouter, Request

from komputer.api.routes.shared import ERRORS, Json, Namespace, answer
from komputer.api.schemas.namespaces import NamespaceList, TemplateList
from komputer.api.state import rights_of, state_of
from komputer.services.templates import templates

router = APIRouter(prefix="/api/v1", responses=ERRORS)


@router.get("/namespaces", operation_id="list_namespaces", tags=["namespaces"], response_model=NamespaceList)
async def list_namespaces(request: Request) -> Json:
    """List the namespaces that are not being deleted and whose agents the caller may list."""
    return answer(NamespaceList(namespaces=await state_of(request).namespaces.names(rights_of(request))))


@router.get("/templates", operation_id="list_templates", tags=["templates"], response_model=TemplateList)
async def list_templates(request: Request, namespace: Namespace) -> Json:
    """List the cluster's templates, then those of the namespace (by default the server's), which take precedence."""
    return answer(TemplateList(templates=await templates(state_of(request).cluster, namespace)))
