"""`/healthz`, `/readyz`, and `/metrics` if access control is off."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from komputer.api.routes.shared import Json, answer, refusal
from komputer.api.schemas.health import Alive, NotReady, Ready
from komputer.api.state import state_of
from komputer.domain.errors import Unavailable

router = APIRouter(tags=["health"], responses=refusal(400, "There is a query parameter."))


@router.get("/healthz", operation_id="healthz", response_model=Alive)
async def healthz() -> Json:
    """The process answers."""
    return answer(Alive(status="ok"))


@router.get(
    "/readyz",
    operation_id="readyz",
    response_model=Ready,
    responses={503: {"model": NotReady, "description": "The process cannot answer requests yet, or any more."}},
)
async def readyz(request: Request) -> Json:
    """Everything that a request needs answers."""
    try:
        await state_of(request).readiness.check()
    except Unavailable as missing:
        return answer(NotReady(status="not ready", error=missing.message, code=missing.code), status=503)
    return answer(Ready(status="ready"))


figures = APIRouter()


@figures.get("/metrics", operation_id="metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    return Response(state_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)
