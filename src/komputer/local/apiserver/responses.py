"""HTTP responses with JSON bodies and `Warning` headers."""

from typing import Any

import orjson
from starlette.responses import Response

from komputer.local.apiserver import events
from komputer.local.apiserver.kinds import ResourceKind
from komputer.local.apiserver.store import Object, Stored


def json_response(body: Any, code: int = 200, warnings: list[str] | None = None) -> Response:
    """Return a response; `body` is an object, or JSON as bytes."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    response = Response(raw, code, media_type="application/json")
    for warning in warnings or ():
        text = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.append("Warning", f'299 - "{_printable_latin1(text)}"')
    return response


def encoded(kind: ResourceKind, stored: Stored) -> bytes:
    """Return the object as JSON, in the form of `kind`'s API. These are the stored bytes, except for Events of
    events.k8s.io and for results of a dry run."""
    if events.stored_as(kind) is kind and stored.raw:
        return stored.raw
    return orjson.dumps(events.to_served(kind, stored.object))


def encoded_list(kind: ResourceKind, items: list[Stored], metadata: Object) -> bytes:
    """Return a list object as JSON, joined from the stored bytes: no object is encoded again."""
    head = {"kind": kind.list_name, "apiVersion": kind.api_version, "metadata": metadata}
    raw_items = b",".join(encoded(kind, stored) for stored in items)
    return orjson.dumps(head)[:-1] + b',"items":[' + raw_items + b"]}"


def _printable_latin1(text: str) -> str:
    """Return `text` with only the characters that a quoted string in a header may contain: a warning can quote anything
    that a client sent."""
    plain = "".join(char if char.isprintable() else "?" for char in text)
    return plain.encode("latin-1", "replace").decode("latin-1")
