"""The connection to the API server: lightkube reads the address and our credentials, httpx2 is the transport."""

import socket
from pathlib import Path
from typing import Final

import httpx2
from lightkube.config import client_adapter
from lightkube.config.kubeconfig import KubeConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError

from komputer.domain.errors import Invalid
from komputer.http import keepalive

TIMEOUT: Final = httpx2.Timeout(20, connect=5, pool=None)
"""Time limits in seconds. A server under load answers a list of thousands of objects in a few seconds; the rest is a
guess, unmeasured."""
LIMITS: Final = httpx2.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=30)
"""Connections are unlimited, because each watch occupies one. Idle ones are closed after 30 s, before servers close
them (kube-apiserver: 90 s), so that no request is sent on a closing connection."""
SOCKET_OPTIONS: Final = [*keepalive.socket_options(30), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
"""Without keep-alive probes, an idle watch would never detect that the server is gone."""


def open_connection(kubeconfig: Path | None) -> httpx2.AsyncClient:
    """Return a client of the API server in `kubeconfig`; None: of the cluster that this pod runs in, whose token is
    read again after each rotation. Proxies of the environment are not used. Raises Invalid (`kubeconfig`)."""
    if kubeconfig and kubeconfig.is_dir():
        raise Invalid(f"The kubeconfig {kubeconfig} is a directory; name a file.", code="kubeconfig")
    try:
        config = KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_service_account()
        chosen = config.get()
        if chosen is None:
            raise ConfigError("no context is chosen in it")
        user = chosen.user or User()
        server = chosen.cluster.server
        verify = (
            client_adapter.verify_cluster(chosen.cluster, user, chosen.abs_file, trust_env=False)
            if server.startswith("https:")
            else False
        )
        auth = client_adapter.user_auth(user)
    except Exception as error:  # border: lightkube raises many types of errors for an invalid file
        where = f"the kubeconfig {kubeconfig}" if kubeconfig else "the pod's service account"
        raise Invalid(f"Cannot find a Kubernetes API in {where}: {error!r}", code="kubeconfig") from error
    return httpx2.AsyncClient(
        base_url=server,
        auth=auth,
        timeout=TIMEOUT,
        # Inside a cluster or a machine, compression costs more than it saves.
        headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "komputer"},
        transport=httpx2.AsyncHTTPTransport(verify=verify, limits=LIMITS, socket_options=SOCKET_OPTIONS),
    )
