"""The gateway as a running server."""

from komputer import gateway
from komputer.bootstrap.backends import Backends
from komputer.bootstrap.metrics import metrics_served
from komputer.bootstrap.server import Endpoint, serve


async def serve_gateway(settings: gateway.GatewaySettings, backends: Backends, endpoint: Endpoint) -> None:
    """Serve the gateway until a stop signal. Raises `Invalid` (`kubeconfig`, `redis_address`)."""
    async with backends.connected() as (cluster, log):
        app = gateway.app(settings, cluster, log)
        async with metrics_served(endpoint.metrics, app.metrics.text):
            await serve(app, endpoint, drain=app.drain)
