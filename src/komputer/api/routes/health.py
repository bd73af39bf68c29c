"""`/healthz`, `/readyz`, and `/metrics` where everybody may see everything."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from komputer.domain.errors import Unavailable
from komputer.http.connections import totals

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", operation_id="readyz", responses={503: {"description": "What is missing."}})
async def readyz(request: Request) -> JSONResponse:
    """Everything that a request needs answers."""
    state = request.app.state
    unread = [cache.kind.plural for cache in state.caches if not cache.is_synced]
    try:
        if unread:
            raise Unavailable(f"{', '.join(unread)} have not been read yet", code="starting")
        await state.log.ping()
        if not state.overlay.is_filled:
            raise Unavailable("what the agents are doing has not been read yet", code="starting")
        if problem := state.background.problem:
            raise Unavailable(problem, code="background_failed")
        if shortage := totals.shortage():
            raise Unavailable(shortage, code="too_many_connections")
        await state.settings.also_ready()
    except Unavailable as missing:
        return JSONResponse({"status": "not ready", "error": missing.message, "code": missing.code}, 503)
    return JSONResponse({"status": "ready"})


figures = APIRouter()


@figures.get("/metrics", operation_id="metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)
