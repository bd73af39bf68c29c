"""Checks answers of the REST API against `docs/openapi.json`, strictly: a field that is not documented is an error.

Clients of tests call `checked` for every response, through httpx's event hooks.
"""

import copy
import json
import re
from pathlib import Path
from typing import Any, Final

import httpx
import jsonschema_rs

DOCUMENT: Final[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "docs" / "openapi.json").read_text("utf-8"))
ERROR: Final = {"$ref": "#/components/schemas/ErrorBody"}
UNDOCUMENTED: Final = {"no_route": 404, "wrong_method": 405, "http_405": 405}
"""Errors that belong to no operation, by code."""


def strict(schema: Any) -> Any:
    """Return the schema with `additionalProperties: false` in every object schema that lists properties."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made["additionalProperties"] = False
    return made


class Contract:
    """The documented answers of each operation. `answered` are the operations and statuses that were checked."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._components = strict(copy.deepcopy(document["components"]))
        self._paths = [
            (re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) + "$"), operations)
            for path, operations in document["paths"].items()
        ]
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}
        self.answered: set[tuple[str, int]] = set()

    def check(self, method: str, path: str, status: int, content_type: str, body: bytes) -> None:
        """Raise `AssertionError` for an answer that the document does not describe."""
        operation = self._operation(method, path)
        described = operation and operation["responses"].get(str(status))
        where = f"{method} {path}: {status}"
        if not described:
            parsed = json.loads(body)
            self._validate(ERROR, parsed, where)
            assert UNDOCUMENTED.get(parsed["code"]) == status, f"{where} is not documented: {parsed}"
            return
        assert operation is not None
        media_type = content_type.partition(";")[0]
        assert media_type in described["content"], f"{where}: {content_type} is not documented"
        self.answered.add((operation["operationId"], status))
        if media_type == "application/json":
            self._validate(described["content"][media_type]["schema"], json.loads(body), where)

    def check_event(self, event: Any) -> None:
        """Raise `AssertionError` for an event that the document does not describe."""
        self._validate({"$ref": "#/components/schemas/EventBody"}, event, "event")

    def covers(self, path: str) -> bool:
        """Return whether answers at this path are part of the API."""
        return path.startswith("/api/") or any(pattern.match(path) for pattern, _ in self._paths)

    def operations(self) -> set[str]:
        return {operation["operationId"] for _, operations in self._paths for operation in operations.values()}

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        for pattern, operations in self._paths:
            if pattern.match(path) and method.lower() in operations:
                found: dict[str, Any] = operations[method.lower()]
                return found
        return None

    def _validate(self, schema: dict[str, Any], value: Any, where: str) -> None:
        key = json.dumps(schema)
        if key not in self._validators:
            whole = {**strict(schema), "components": self._components}
            self._validators[key] = jsonschema_rs.Draft202012Validator(whole)
        errors = [
            f"{'/'.join(map(str, error.instance_path))}: {error.message[:300]}"
            for error in self._validators[key].iter_errors(value)
        ]
        assert not errors, f"{where} is not as documented: {errors[:5]}"


CONTRACT: Final = Contract(DOCUMENT)


def _is_stream(response: httpx.Response) -> bool:
    content_type: str = response.headers.get("content-type", "")
    return content_type.startswith("text/event-stream")


def _check(response: httpx.Response) -> None:
    request = response.request
    if request.method not in ("HEAD", "OPTIONS") and CONTRACT.covers(request.url.path):
        content = b"" if _is_stream(response) else response.content
        content_type = response.headers.get("content-type", "")
        CONTRACT.check(request.method, request.url.path, response.status_code, content_type, content)


async def checked(response: httpx.Response) -> None:
    """An event hook of `httpx.AsyncClient`."""
    if not _is_stream(response):
        await response.aread()
    _check(response)


def checked_sync(response: httpx.Response) -> None:
    """An event hook of `httpx.Client`."""
    if not _is_stream(response):
        response.read()
    _check(response)
