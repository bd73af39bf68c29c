"""`/api/v1/namespaces` and `/api/v1/templates`: what a client may choose from."""

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel

from komputer.api.auth import Sight
from komputer.api.routes.shared import ERRORS, Json, Namespace
from komputer.kube import AGENTS, CLUSTER_TEMPLATES, NAMESPACES, TEMPLATES, Cluster

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
    found: Cluster = request.app.state.cluster
    return found


@router.get("/namespaces", operation_id="list_namespaces", tags=["namespaces"], response_model=NamespaceList)
async def list_namespaces(request: Request) -> Json:
    """Names of the namespaces that are not being deleted, and of whose agents the caller may see something."""
    found = (await cluster(request).list(NAMESPACES)).items
    kept = sorted(m["metadata"]["name"] for m in found if not m["metadata"].get("deletionTimestamp"))
    seen = await Sight(request, "list", NAMESPACES).among(tuple)
    if seen is not None:
        agents = await Sight(request, "list", AGENTS).among(lambda: kept)
        kept = [name for name in kept if agents is None or name in agents]
    return Json(orjson.dumps({"namespaces": kept}))


@router.get("/templates", operation_id="list_templates", tags=["templates"], response_model=TemplateList)
async def list_templates(request: Request, namespace: Namespace) -> Json:
    """The cluster's templates, then those of the namespace (without one: of the default), which win over them."""
    everywhere = sorted(m["metadata"]["name"] for m in (await cluster(request).list(CLUSTER_TEMPLATES)).items)
    here = sorted(m["metadata"]["name"] for m in (await cluster(request).list(TEMPLATES, namespace)).items)
    found = [{"name": name, "scope": "cluster"} for name in everywhere]
    found += [{"name": name, "scope": "namespace", "namespace": namespace} for name in here]
    return Json(orjson.dumps({"templates": found}))
