"""The OpenAPI document: FastAPI's, corrected where it does not describe our answers. `make generated` writes it to
`docs/openapi.json`."""

import json
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from komputer.api.schemas.events import event_schemas

ABOUT = """Persistent Claude agents: give them tasks, follow what they do, give them the next one.

Every error is `{"error": "<what happened, to which object, what to do>", "code": "<a stable code>"}`. Unknown and
repeated query parameters are answered with 400. Unknown fields of a request are ignored and named in `warnings` of the
response. Ignore unknown fields of a response: a later version may add fields."""
BUILT_IN_VALIDATION = ("HTTPValidationError", "ValidationError")
"""Schemas of FastAPI's own 422, which it documents for every route; our routes answer 400 instead."""
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
    "MessageRequest": {"content": "Use tabs, please."},
    "Compact": {"instructions": "Keep the names of the files."},
    "CreateSecret": {"name": "github", "data": {"token": "ghp_…"}},
    "UpdateSecret": {"data": {"token": "ghp_…"}},
}
"""An example of each request body, by the name of its schema."""
REFERENCE: Final = "#/components/schemas/{model}"


def install(app: FastAPI) -> None:
    """Serve `document(app)` as `/openapi.json`; it is created at the first request."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of all routes."""
    found = get_openapi(
        title=app.title,
        version=app.version,
        description=ABOUT,
        routes=app.routes,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/", "description": "The platform that serves this document."}],
    )
    schemas = found["components"]["schemas"] | event_schemas(REFERENCE)
    found["components"]["schemas"] = dict(sorted(schemas.items()))
    found["components"]["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of the Kubernetes API; not needed on a laptop.",
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
    schemas = found["components"]["schemas"]
    for name in BUILT_IN_VALIDATION:
        schemas.pop(name, None)
    for name, schema in schemas.items():
        if name in EXAMPLES:
            schema["examples"] = [EXAMPLES[name]]
        for part in schema.get("properties", {}).values():
            part.pop("title", None)
    return found


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter without the alternative null: an optional parameter may be absent, not null."""
    kept = {
        key: value for key, value in schema.items() if key not in ("title", "anyOf", "default") or value is not None
    }
    kept.pop("title", None)
    for option in kept.pop("anyOf", ()):
        if option.get("type") != "null":
            kept |= option
    return kept
