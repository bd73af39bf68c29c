"""The Python client for applications. It calls the REST API and imports nothing else of the platform."""

from komputer.client.client import AgentDeleted, ApiError, Client, Unreachable

__all__ = ["AgentDeleted", "ApiError", "Client", "Unreachable"]
