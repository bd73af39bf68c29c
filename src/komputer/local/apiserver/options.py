"""The options of a write or a deletion, as values."""

from dataclasses import dataclass, field
from typing import Literal

Policy = Literal["Background", "Foreground", "Orphan"]
"""A deletion's propagationPolicy."""


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """The options in the query of a write. `warnings` collects texts for the `Warning` headers of the response."""

    dry_run: bool = False
    field_validation: Literal["Ignore", "Warn", "Strict"] = "Warn"
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """The options of a deletion. If `policy` is None, the object's finalizers decide; without any it is Background."""

    grace_seconds: int | None = None
    policy: Policy | None = None
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False
