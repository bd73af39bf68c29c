"""OpenAPI documents, to the extent that `kubectl explain` and the validation of `kubectl apply` need them."""

import copy
import hashlib
from typing import Any

import orjson
from starlette.responses import Response

from komputer.local.apiserver.builtin_schema import TYPE_NAME, schema_of
from komputer.local.apiserver.kinds import POD, Registry, ResourceKind
from komputer.local.apiserver.schema import Schema

Object = dict[str, Any]

_INFO = {"title": "Kubernetes", "version": "v1.33.0"}
_PROTOBUF_V2 = b"\x0a\x032.0\x12\x15\x0a\x0aKubernetes\x12\x07v1.33.0"
"""An OpenAPI v2 document without definitions, in protobuf. With it kubectl uses its own types."""


def v3_paths(registry: Registry) -> Object:
    """Return the body of /openapi/v3: the location of the document of each group and version."""
    found = dict.fromkeys((kind.group, kind.version) for kind in registry)
    listed = {}
    for group, version in found:
        path = f"apis/{group}/{version}" if group else f"api/{version}"
        extension = hashlib.sha256(f"{registry.generation}/{_fingerprint(registry, group)}".encode()).hexdigest()[:32]
        listed[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={extension}"}
    return {"paths": listed}


def _fingerprint(registry: Registry, group: str) -> str:
    return hashlib.sha256(b"".join(orjson.dumps(kind.schema) for kind in registry if kind.group == group)).hexdigest()


def v3_document(registry: Registry, group: str, version: str) -> Object | None:
    """Return the body of /openapi/v3/apis/<group>/<version>, None for an unknown one."""
    kinds = [kind for kind in registry if (kind.group, kind.version) == (group, version)]
    if not kinds:
        return None
    schemas: dict[str, Schema] = {}
    operations: Object = {}
    for kind in kinds:
        name = _define(kind, schemas, "#/components/schemas/")
        operations |= _operations(kind, name)
    return {"openapi": "3.0.0", "info": _INFO, "paths": operations, "components": {"schemas": schemas}}


def v2_document(registry: Registry, accept: str) -> Response:
    """Return the response to /openapi/v2: all definitions in JSON, or an empty document in protobuf, the only form that
    kubectl reads there."""
    if "protobuf" in accept:
        media = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
        return Response(_PROTOBUF_V2, media_type=media)
    schemas: dict[str, Schema] = {}
    for kind in registry:
        _define(kind, schemas, "#/definitions/")
    body = {"swagger": "2.0", "info": _INFO, "paths": {}, "definitions": schemas}
    return Response(orjson.dumps(body), media_type="application/json")


def _define(kind: ResourceKind, schemas: dict[str, Schema], prefix: str) -> str:
    if kind.custom:
        name = f"{'.'.join(reversed(kind.group.split('.')))}.{kind.version}.{kind.kind}"
        schema = copy.copy(kind.schema)
        meta = _collected(schema_of(POD)["properties"]["metadata"], schemas, prefix)
        texts = {
            "apiVersion": {
                "type": "string",
                "description": "APIVersion defines the versioned schema of this representation of an object.",
            },
            "kind": {
                "type": "string",
                "description": "Kind is a string value representing the REST resource this object represents.",
            },
            "metadata": {"description": "Standard object's metadata.", "allOf": [meta], "default": {}},
        }
        schema["properties"] = {
            **texts,
            **{k: v for k, v in (schema.get("properties") or {}).items() if k not in texts},
        }
    else:
        reference = _collected(schema_of(kind), schemas, prefix)
        name = reference["$ref"].removeprefix(prefix)
        schema = schemas[name]
    group_version_kind = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    schemas[name] = {**schema, "x-kubernetes-group-version-kind": [group_version_kind]}
    return name


def _collected(schema: Schema, schemas: dict[str, Schema], prefix: str) -> Schema:
    """Add every named type in `schema` to `schemas`, and return `schema` with references to them."""
    name = schema.get(TYPE_NAME)
    if name is None:
        return {key: _keyword(key, value, schemas, prefix) for key, value in schema.items()}
    name = f"io.k8s.{name}"
    if name not in schemas:
        schemas[name] = {}
        properties = {key: _referring(sub, schemas, prefix) for key, sub in schema["properties"].items()}
        rest = {key: value for key, value in schema.items() if key not in (TYPE_NAME, "properties")}
        schemas[name] = {**rest, "properties": properties}
    return {"$ref": prefix + name}


def _keyword(key: str, value: Any, schemas: dict[str, Schema], prefix: str) -> Any:
    if key == "items":
        return _collected(value, schemas, prefix)
    # kubectl explain needs a type for additional properties. The untyped maps of the models are maps of strings.
    return {"type": "string"} if key == "additionalProperties" and value is True else value


def _referring(schema: Schema, schemas: dict[str, Schema], prefix: str) -> Schema:
    if TYPE_NAME not in schema:
        return _collected(schema, schemas, prefix)
    reference = _collected(schema, schemas, prefix)
    return {"description": schema.get("description", ""), "allOf": [reference]}


def _operations(kind: ResourceKind, name: str) -> Object:
    base = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    collection = f"{base}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{base}/{kind.plural}"
    extension = {"x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind}}
    parameters = [
        {"name": one, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
        for one in ("dryRun", "fieldValidation")
    ]
    answer = {
        "200": {
            "description": "OK",
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
        }
    }
    forms = ["application/json-patch+json", "application/merge-patch+json"]
    forms += [] if kind.custom else ["application/strategic-merge-patch+json"]
    content = {form: {"schema": {"type": "object"}} for form in forms}
    read = {**extension, "responses": answer}
    write = {**extension, "parameters": parameters, "responses": answer}
    found: Object = {collection: {"post": {**write, "x-kubernetes-action": "post"}}}
    if "get" in kind.verbs:
        found[collection]["get"] = {**read, "x-kubernetes-action": "list"}
        patch = {**write, "x-kubernetes-action": "patch", "requestBody": {"content": content}}
        found[collection + "/{name}"] = {
            "get": {**read, "x-kubernetes-action": "get"},
            "put": {**write, "x-kubernetes-action": "put"},
            "patch": patch,
            "delete": {**read, "x-kubernetes-action": "delete"},
        }
    return found
