"""`pods/log`, the request behind `kubectl logs`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response, StreamingResponse

from komputer.local.apiserver.errors import bad_request
from komputer.local.apiserver.logs import LogRequest, LogSource
from komputer.local.apiserver.requests import ResourceRequest, is_true, refuse_method, whole_number
from komputer.local.apiserver.store import Stored

FIRST_CHUNK_S = 0.2
"""How long the log source may take to report that there is no log, before the response begins. A guess, unmeasured."""


async def pod_log(call: ResourceRequest, pod: Stored, source: LogSource | None, stopping: asyncio.Event) -> Response:
    """Return the log of one container as text; empty without a kubelet. Raises StatusError 400 for an unknown
    container, or for one that never started."""
    if call.request.method != "GET":
        raise refuse_method(call.target.kind, call.request.method, ("GET",))
    spec = pod.object["spec"]
    names = [one["name"] for one in [*spec["containers"], *(spec.get("initContainers") or ())]]
    container = call.query.get("container") or names[0]
    name = call.target.name
    if not call.query.get("container") and len(spec["containers"]) > 1:
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]")
    if container not in names:
        raise bad_request(f"container {container} is not valid for pod {name}")
    if source is None:
        return Response(b"", media_type="text/plain")
    log_request = LogRequest(
        namespace=call.target.space,
        pod=name,
        container=container,
        follow=is_true(call.query, "follow"),
        previous=is_true(call.query, "previous"),
        timestamps=is_true(call.query, "timestamps"),
        tail_lines=whole_number(call.query, "tailLines"),
        limit_bytes=whole_number(call.query, "limitBytes"),
        since_seconds=whole_number(call.query, "sinceSeconds"),
        since=call.query.get("sinceTime"),
    )
    chunks = source(log_request)
    first = asyncio.ensure_future(anext(chunks, None))
    await asyncio.wait({first}, timeout=FIRST_CHUNK_S)
    if first.done() and isinstance(error := first.exception(), LookupError):
        raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {error}') from error
    return StreamingResponse(_until(first, chunks, stopping), media_type="text/plain")


async def _until(
    step: asyncio.Future[bytes | None], chunks: AsyncIterator[bytes], stopping: asyncio.Event
) -> AsyncIterator[bytes]:
    """Yield the chunk of `step`, then all others, until they end or `stopping` is set."""
    stop = asyncio.ensure_future(stopping.wait())
    try:
        while True:
            either: set[asyncio.Future[Any]] = {stop, step}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not step.done() or (chunk := step.result()) is None:
                return
            yield chunk
            step = asyncio.ensure_future(anext(chunks, None))
    finally:
        stop.cancel()
        step.cancel()
