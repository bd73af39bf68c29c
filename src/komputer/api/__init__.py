"""The REST API: HTTP routes over `komputer.services`.

Everything that depends on HTTP belongs here: routes (one module for each kind of object), requests and responses
(`schemas`), errors as JSON, authentication, event streams. Operations on objects belong to `komputer.services`,
decisions to `komputer.domain`.
"""

from komputer.api.app import app
from komputer.api.settings import ApiSettings
from komputer.api.state import app_state
from komputer.api.websockets import LimitedWebSocketProtocol as WebSocketProtocol

__all__ = ["ApiSettings", "WebSocketProtocol", "app", "app_state"]
