"""The Python client: what an application calls. It speaks HTTP to the API and knows nothing else of the platform."""

from komputer.client.client import AgentDeleted, ApiError, Client, Unreachable

__all__ = ["AgentDeleted", "ApiError", "Client", "Unreachable"]
