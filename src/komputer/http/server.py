"""The uvicorn configuration of every HTTP server of the platform."""

from functools import partial
from typing import Any

import uvicorn

from komputer.http.connections import Connections
from komputer.http.limits import Limits
from komputer.http.protocol import HttpProtocol
from komputer.http.refusals import Refusal, as_error


def config(
    app: Any,
    *,
    limits: Limits | None = None,
    refusal: Refusal = as_error,
    protocol: type[HttpProtocol] = HttpProtocol,
    **others: Any,
) -> uvicorn.Config:
    """Return uvicorn's configuration with our protocol and limits; `others` are uvicorn's own settings. Without `ws` in
    them, a WebSocket request is answered as an ordinary HTTP request."""
    limits = limits or Limits()
    http: Any = partial(protocol, limits=limits, connections=Connections(limits), refusal=refusal)
    given = {"ws": "none", "access_log": False, "log_config": None, "server_header": False, **others}
    return uvicorn.Config(app, http=http, **given)
