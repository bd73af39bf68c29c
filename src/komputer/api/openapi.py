"""The OpenAPI document: FastAPI's, without what is not so. `make generated` writes it to `docs/openapi.json`."""

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

ABOUT = """Persistent Claude agents: give them tasks, follow what they do, give them the next one.

Every error is `{"error": "<what happened, to which object, what to do>", "code": "<a stable slug>"}`. An unknown query
parameter is 400. Unknown fields of a body are ignored and named in `warnings` of the answer. Ignore unknown fields of
an answer: new ones may come."""
BUILT_IN_VALIDATION = ("HTTPValidationError", "ValidationError")
"""FastAPI announces its own 422 for every route; ours answer 400."""
EXAMPLES: dict[str, dict[str, Any]] = {
    "CreateAgent": {"name": "ada", "instructions": "Write a haiku about pods into haiku.txt."},
    "PatchAgent": {"model": "claude-opus-5-5", "connectors": ["github"]},
    "CreateConnector": {
        "name": "github",
        "service": "github",
        "url": "https://api.githubcopilot.com/mcp/",
        "token": "ghp_…",
    },
    "PatchConnector": {"token": "ghp_…"},
    "Message": {"content": "Use tabs, please."},
    "Compact": {"instructions": "Keep the names of the files."},
    "CreateSecret": {"name": "github", "data": {"token": "ghp_…"}},
    "UpdateSecret": {"data": {"token": "ghp_…"}},
}
"""Of each body that one may send, by the name of its schema."""


def install(app: FastAPI) -> None:
    """`/openapi.json` is `document(app)`, made once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it


def document(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1 of all routes."""
    found = get_openapi(
        title=app.title,
        version=app.version,
        description=ABOUT,
        routes=app.routes,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/", "description": "The platform that serves this document."}],
    )
    schemas = found["components"]["schemas"]
    found["components"]["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of the Kubernetes API; none on a laptop.",
        }
    }
    found["security"] = [{"bearer": []}, {}]
    for operations in found["paths"].values():
        for operation in operations.values():
            refused = operation["responses"].get("422", {})
            if "HTTPValidationError" in json.dumps(refused):
                del operation["responses"]["422"]
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _plain(parameter["schema"])
    for name in BUILT_IN_VALIDATION:
        schemas.pop(name, None)
    for name, schema in schemas.items():
        if name in EXAMPLES:
            schema["examples"] = [EXAMPLES[name]]
        for part in schema.get("properties", {}).values():
            part.pop("title", None)
    return found


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be absent is not one that may be null."""
    kept = {
        key: value for key, value in schema.items() if key not in ("title", "anyOf", "default") or value is not None
    }
    kept.pop("title", None)
    for option in kept.pop("anyOf", ()):
        if option.get("type") != "null":
            kept |= option
    return kept
