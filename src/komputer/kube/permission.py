"""Whether the caller of an operation may write an object that the operation writes beside its own."""

from typing import Protocol

from komputer.kube.kinds import Kind


class Permission(Protocol):
    """Returns where the caller may do `verb` to the object of that kind, or to any (`name` None); raises `Forbidden`
    otherwise. The namespace is the operation's."""

    async def __call__(self, verb: str, kind: Kind, name: str | None = None) -> None: ...


async def everybody(verb: str, kind: Kind, name: str | None = None) -> None:
    """The permission of the platform itself."""
