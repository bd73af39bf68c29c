"""A stand-in for Anthropic's Messages API that plays scripts: demos, tests and benchmarks without a key.

Here belongs what decides and sends the stand-in's answers. It knows nothing of agents, the gateway or Kubernetes: it
is an HTTP server that any Anthropic client can be pointed at. What a script may contain: docs/offline.md.

The imports stand inside the functions, so that naming this room costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["app", "serve"]


def app() -> Starlette:
    """The stand-in as an ASGI application. Its only state is how often each `times` has been used up, in memory."""
    from komputer.offline.endpoint import application

    return application()


def serve(port: int, ready: Callable[[int], None] | None = None) -> None:
    """Serve on 127.0.0.1:`port` (0 picks a free one) until SIGINT or SIGTERM, then return. In the main thread only.

    `ready` is called once with the port when connections are accepted. OSError if the port is taken.
    """
    from komputer.offline.server import run

    run(port, ready)
