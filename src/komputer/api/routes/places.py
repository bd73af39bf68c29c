"""`/api/v1/namespaces` and `/api/v1/templates`: what a client may choose from."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from komputer.api.routes.agents import ERRORS, Json, checked_namespace
from komputer.kube import CLUSTER_TEMPLATES, NAMESPACES, TEMPLATES, Cluster

router = APIRouter(prefix="/api/v1", responses=ERRORS)


class NamespaceList(BaseModel):
    namespaces: list[str]


class TemplateBody(BaseModel):
    name: str
    scope: str
    namespace: str | None = None


class TemplateList(BaseModel):
    templates: list[TemplateBody]


def cluster(request: Request) -> Cluster:
    return request.app.state.cluster  # type: ignore[no-any-return]


@router.get("/namespaces", operation_id="list_namespaces", tags=["namespaces"], response_model=NamespaceList)
async def list_namespaces(request: Request) -> Json:
    """Names of all namespaces that are not being deleted."""
    found = (await cluster(request).list(NAMESPACES)).items
    kept = sorted(m["metadata"]["name"] for m in found if not m["metadata"].get("deletionTimestamp"))
    return Json(orjson.dumps({"namespaces": kept}))


@router.get("/templates", operation_id="list_templates", tags=["templates"], response_model=TemplateList)
async def list_templates(request: Request, namespace: Annotated[str | None, Query()] = None) -> Json:
    """The cluster's templates, then those of the namespace (without one: of the default), which win over them."""
    where = checked_namespace(namespace) or request.app.state.settings.default_namespace
    everywhere = sorted(m["metadata"]["name"] for m in (await cluster(request).list(CLUSTER_TEMPLATES)).items)
    here = sorted(m["metadata"]["name"] for m in (await cluster(request).list(TEMPLATES, where)).items)
    found = [{"name": name, "scope": "cluster"} for name in everywhere]
    found += [{"name": name, "scope": "namespace", "namespace": where} for name in here]
    return Json(orjson.dumps({"templates": found}))
