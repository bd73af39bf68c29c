"""`/healthz`, `/readyz` and `/metrics`."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from komputer.resources.errors import Unavailable

router = APIRouter(tags=["health"])

WATCH_STALE_S = 60.0
"""A watch that has been silent for longer (bookmarks come about once a minute) no longer counts as current."""


@router.get("/healthz", operation_id="healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", operation_id="readyz", responses={503: {"description": "What is missing."}})
async def readyz(request: Request) -> JSONResponse:
    """Everything that a request needs answers."""
    state = request.app.state
    for cache, what in ((state.cache, "agents"), (state.connector_cache, "connectors")):
        if not cache.is_synced:
            return JSONResponse(
                {"status": "not ready", "error": f"the {what} have not been read yet", "code": "unavailable"}, 503
            )
    try:
        await state.log.ping()
        await state.settings.also_ready()
    except Unavailable as missing:
        return JSONResponse({"status": "not ready", "error": missing.message, "code": missing.code}, 503)
    return JSONResponse({"status": "ready"})


@router.get("/metrics", operation_id="metrics", include_in_schema=False)
async def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
