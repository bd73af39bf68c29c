"""The REST API as a running server."""

from komputer import api
from komputer.bootstrap.backends import Backends
from komputer.bootstrap.metrics import metrics_served
from komputer.bootstrap.server import Endpoint, serve


async def serve_api(settings: api.ApiSettings, backends: Backends, endpoint: Endpoint) -> None:
    """Serve the REST API until a stop signal. Raises `Invalid` (`kubeconfig`, `redis_address`)."""
    async with backends.connected() as (cluster, log):
        app = api.app(settings, cluster, log)
        async with metrics_served(endpoint.metrics, app.state.metrics.text):
            await serve(app, endpoint, drain=app.state.streams.drain, websockets=api.WebSocketProtocol)
