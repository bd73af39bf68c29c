"""A stand-in for Anthropic's Messages API that plays scripts: for demos, tests and benchmarks without an API key.

The package does not depend on agents, the gateway or Kubernetes: any Anthropic client can use the stand-in.
`docs/offline.md` describes the scripts.

Imports are inside the functions, so that importing this package is cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["app", "serve"]


def app() -> Starlette:
    """Return the stand-in as an ASGI application. Its only state, kept in memory, is how often each step with `times`
    was played."""
    from komputer.offline.endpoint import application

    return application()


def serve(port: int, ready: Callable[[int], None] | None = None) -> None:
    """Serve on 127.0.0.1:`port` (0 picks a free one) until SIGINT or SIGTERM, then return. Call it in the main thread.

    `ready` is called with the port once connections are accepted. Raises OSError if the port is in use."""
    from komputer.offline.server import run

    run(port, ready)
