"""What pods talk to, and all that they talk to: the assignment out, events in, the model with our credential.

Here belongs what stands between a pod and everything else: who it is (`identity.py`), what it is told (`assignment.py`,
`streams.py`), what is taken from it (`intake.py`), what it may ask of the model (`requests.py`, `headers.py`,
`model.py`, `vertex.py`) and of connectors' servers (`connectors.py`, `redaction.py`), when (`open_tasks.py`) and how
much at once (`bound.py`), which secrets its tools get (`secrets.py`), and what a manager may do with agents of its own
(`managers.py`, `tools.py`, `waiting.py`; `family.py` decides, pure).
Nothing is kept that a restart loses. What a task is and when it ends is decided by `domain/` and the log, not here.
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
