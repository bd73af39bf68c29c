"""`/` and `/favicon.ico`: what a browser asks for first. The page loads nothing from elsewhere."""

from typing import Final

from fastapi import APIRouter, Response

from komputer import __version__

router = APIRouter(include_in_schema=False)

PAGE: Final = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Komputer</title><link rel="icon" href="/favicon.ico" type="image/svg+xml"></head>
<body>
<h1>Komputer {__version__}</h1>
<p>The REST API of this platform is at <code>/api/v1</code>.</p>
<ul>
<li><a href="/docs">API documentation</a></li>
<li><a href="/openapi.json">OpenAPI description</a></li>
<li><a href="/api/v1/agents">Agents</a></li>
<li><a href="/readyz">Readiness</a></li>
</ul>
</body>
</html>
"""
ICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#1f4e79"/>'
    '<path d="M4 3h2v4l4-4h3L8.5 7.500 13 13h-3L6 8.500V13H4z" fill="#fff"/></svg>'
)
POLICY: Final = "default-src 'none'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@router.get("/", operation_id="index")
async def index() -> Response:
    """A page with links to the documentation."""
    return Response(PAGE, media_type="text/html", headers={"Content-Security-Policy": POLICY})


@router.get("/favicon.ico", operation_id="favicon")
async def favicon() -> Response:
    return Response(ICON, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})
