"""REST for clients. Reads come from a watched cache, writes go to the Kubernetes API, events come from the log.

Here belongs what HTTP needs: routes (one file per noun), bodies, errors as JSON. What is done with agents, what an
agent is, which task is wanted and what an event is, is said in the rooms below.
"""

from komputer.api.app import ApiSettings, app
from komputer.api.websockets import LimitedWebSocketProtocol as WebSocketProtocol

__all__ = ["ApiSettings", "WebSocketProtocol", "app"]
