"""Permission of an operation's caller to write further objects, which the operation writes too."""

from typing import Protocol

from komputer.kube.kinds import Kind


class Permission(Protocol):
    """Raises `Forbidden` unless the caller may do `verb` to the object of that kind (`name` None: to all of them) in
    the operation's namespace."""

    async def __call__(self, verb: str, kind: Kind, name: str | None = None) -> None: ...


async def everybody(verb: str, kind: Kind, name: str | None = None) -> None:
    """The permission of the platform itself."""
