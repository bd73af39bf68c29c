"""The REST API: HTTP routes over `komputer.services`.

What depends on HTTP belongs here: routes (one file per noun), requests and responses (`schemas`), errors as JSON,
authentication, event streams. What is done with a noun belongs to `komputer.services`, decisions to `komputer.domain`.
"""

from komputer.api.app import app
from komputer.api.settings import ApiSettings
from komputer.api.state import app_state
from komputer.api.websockets import LimitedWebSocketProtocol as WebSocketProtocol

__all__ = ["ApiSettings", "WebSocketProtocol", "app", "app_state"]
