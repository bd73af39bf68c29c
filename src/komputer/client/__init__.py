"""The Python client: what an application calls. It speaks HTTP to the API and knows nothing else of the platform."""

from komputer.client.client import ApiError, Client, Unreachable

__all__ = ["ApiError", "Client", "Unreachable"]
