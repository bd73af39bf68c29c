"""Reads owner references. People and other controllers can write them too, so their shape is checked here."""

from typing import NamedTuple

from komputer.domain import names
from komputer.domain.base import Manifest
from komputer.kube import AGENTS


class AgentOwner(NamedTuple):
    """An owner reference to an agent."""

    name: str
    uid: str
    is_controller: bool


def agent_owners(manifest: Manifest) -> list[AgentOwner]:
    """Return the owner references of an object that refer to agents; malformed ones are left out."""
    references = manifest["metadata"].get("ownerReferences")
    return [
        AgentOwner(each["name"], each["uid"], each.get("controller") is True)
        for each in (references if isinstance(references, list) else ())
        if isinstance(each, dict)
        and each.get("kind") == AGENTS.kind
        and str(each.get("apiVersion")).startswith(f"{names.GROUP}/")
        and isinstance(each.get("name"), str)
        and isinstance(each.get("uid"), str)
    ]
