"""The Python client for applications. It calls the REST API; of the platform it imports only `komputer.backoff`."""

from komputer.client.client import AgentDeleted, ApiError, Client, Unreachable

__all__ = ["AgentDeleted", "ApiError", "Client", "Unreachable"]
