"""The only service that pods talk to: it assigns tasks, accepts events, and forwards requests to the model and to
connectors.

| file or package | what it does |
|---|---|
| `agents/` | identifies the caller, answers its hello, sends assignments with their secrets, and accepts events |
| `model/` | decides which model requests pass, and forwards them with the platform's credential |
| `connectors/` | forwards MCP requests with the connector's credential, which it removes from answers |
| `managers/` | the MCP server with which a manager controls agents of its own |
| `caches.py`, `quota.py` | watched resources; limits on what is in progress |
| `parts.py`, `routes.py`, `app.py` | the parts and their wiring, the HTTP routes, the ASGI app |

The gateway has no state that a restart could lose: `domain/` and the event log decide what a task is and when it ends.
"""

from komputer.gateway.app import Gateway, app
from komputer.gateway.errors import UpstreamUnreachable
from komputer.gateway.settings import Credentials, GatewaySettings, ModelCredential, always
from komputer.gateway.vertex import Vertex

__all__ = [
    "Credentials",
    "Gateway",
    "GatewaySettings",
    "ModelCredential",
    "UpstreamUnreachable",
    "Vertex",
    "always",
    "app",
]
