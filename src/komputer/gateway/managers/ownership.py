"""Which agents are a manager's own, and what it may give to one that it makes. Pure.

An agent is its manager's by the owner reference, which names the manager's uid: nothing that an agent could write about
itself. So the garbage collector takes the whole family with its head.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from ulid import ULID

from komputer.domain import names
from komputer.domain.agent import Agent, Role
from komputer.domain.base import Manifest
from komputer.domain.config import Config, ConfigSpec, RedisRef
from komputer.domain.errors import Forbidden, Invalid
from komputer.kube import AGENTS

Look = Callable[[str], Manifest | None]
"""The agent of that name in the manager's namespace."""
DEFAULTS = ConfigSpec(redis=RedisRef(address=""))
GENERATIONS = 64
"""A family tree that is deeper goes round in a circle: names and uids are written by people too."""


def manager_of(manifest: Manifest) -> tuple[str, str] | None:
    """Name and uid of the agent that made this one."""
    for owner in manifest["metadata"].get("ownerReferences") or ():
        if owner.get("kind") == AGENTS.kind and owner.get("apiVersion", "").startswith(f"{names.GROUP}/"):
            return owner["name"], owner["uid"]
    return None


def line_of(manifest: Manifest, look: Look) -> list[str]:
    """The uids of its managers, the nearest first."""
    uids: list[str] = []
    while len(uids) < GENERATIONS and (found := manager_of(manifest)):
        uids.append(found[1])
        above = look(found[0])
        if above is None or above["metadata"]["uid"] != found[1]:
            break
        manifest = above
    return uids


def require_own(manager: Agent, manifest: Manifest, look: Look) -> None:
    """Raises `Forbidden` (`not_your_agent`) for an agent that neither the manager nor one of its agents made."""
    if manager.metadata.uid not in line_of(manifest, look):
        name = manifest["metadata"]["name"]
        raise Forbidden(
            f"agent {name!r} is not one of yours: you act only on agents that you made", code="not_your_agent"
        )


def children(manager: Agent, manifests: Iterable[Manifest]) -> list[Manifest]:
    """The living agents that the manager made itself."""
    return [
        each
        for each in manifests
        if (found := manager_of(each))
        and found[1] == manager.metadata.uid
        and not each["metadata"].get("deletionTimestamp")
    ]


def require_room(manager: Agent, manifest: Manifest, look: Look, siblings: int, config: Config | None) -> None:
    """Raises `Forbidden` (`too_deep`, `too_many_agents`) where the platform's limits allow no further agent."""
    limits = config.spec if config else DEFAULTS
    depth = len(line_of(manifest, look)) + 1
    if depth > limits.max_agent_depth:
        raise Forbidden(
            f"agents are nested at most {limits.max_agent_depth} deep here, and yours would be {depth}: "
            "do this part yourself",
            code="too_deep",
        )
    if siblings >= limits.max_agents_per_manager:
        raise Forbidden(
            f"you have {siblings} agents, as many as you may have: give the task to one of them, or delete one",
            code="too_many_agents",
        )


def settings_of_child(
    manager: Agent, role: Role, model: str | None, system_prompt: str | None, connectors: list[str]
) -> Manifest:
    """The spec of an agent that has no more than its manager. Raises `Invalid` (`not_yours_to_give`)."""
    spec = manager.spec
    if extra := sorted(set(connectors) - set(spec.connectors or ())):
        raise Invalid(
            f"you have no connector {extra[0][:100]!r}, so your agents cannot have it; yours are: "
            + (", ".join(sorted(spec.connectors or ())) or "none"),
            code="not_yours_to_give",
            field="connectors",
        )
    found: dict[str, Any] = {
        **spec.given(),
        "role": role,
        "model": model or spec.model,
        "templateRef": spec.template_ref,
        "systemPrompt": system_prompt,
        "connectors": connectors or None,
        "officeManager": manager.metadata.name,
    }
    return {field: value for field, value in found.items() if value is not None}


def belonging_to(manager: Agent) -> Manifest:
    """What the metadata of a child says of its manager."""
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": AGENTS.kind,
        "name": manager.metadata.name,
        "uid": manager.metadata.uid,
        "controller": True,
    }
    return {"labels": {names.OFFICE_LABEL: names.office_name(manager.metadata.name)}, "ownerReferences": [owner]}


def task_id_of(manager: Agent, manager_task: str, call: str | None) -> str:
    """A task's id, the same whenever the same tool call comes again: so a call that is repeated runs nothing twice."""
    if not call:
        return str(ULID())
    digest = hashlib.sha256(f"{manager.metadata.uid} {manager_task} {call}".encode()).digest()
    return str(ULID(ULID.from_str(manager_task).bytes[:6] + digest[:10]))
