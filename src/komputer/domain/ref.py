"""A reference to an object by namespace and name."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class ObjectRef(NamedTuple):
    """Namespace and name of an object whose kind the context says. The namespace of a cluster-wide object is empty."""

    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "ObjectRef":
        """The reference to the object of this manifest."""
        metadata = manifest["metadata"]
        return cls(metadata.get("namespace") or "", metadata["name"])

    def __str__(self) -> str:
        """`namespace/name`, as logs and Redis values write it."""
        return f"{self.namespace}/{self.name}"
