"""A reference to an object by namespace and name."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class ObjectRef(NamedTuple):
    """The namespace and name of an object whose kind is known from the context. The namespace of a cluster-scoped
    object is empty."""

    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "ObjectRef":
        """Return the reference to the object in `manifest`."""
        metadata = manifest["metadata"]
        return cls(metadata.get("namespace") or "", metadata["name"])

    def __str__(self) -> str:
        """Return `namespace/name`, the form in logs and Redis values."""
        return f"{self.namespace}/{self.name}"
