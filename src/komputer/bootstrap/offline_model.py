"""The offline model as a running server."""

from komputer import offline
from komputer.bootstrap.server import Endpoint, serve
from komputer.http.refusals import as_messages_api


async def serve_offline_model(endpoint: Endpoint) -> None:
    """Serve the offline model until a stop signal. HTTP errors have the form of the Messages API."""
    await serve(offline.app(), endpoint, refusal=as_messages_api)
