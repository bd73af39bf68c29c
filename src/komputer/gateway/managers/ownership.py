"""Which agents belong to a manager, and what a manager may give to an agent that it creates. Pure.

An agent belongs to the manager whose uid is in its owner reference. No agent can write owner references. With them,
Kubernetes' garbage collector deletes a manager's agents together with the manager.
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
from komputer.gateway.agents.owners import agent_owners
from komputer.kube import AGENTS

Find = Callable[[str], Manifest | None]
"""Returns the agent with this name in the manager's namespace; None if there is none."""
DEFAULTS = ConfigSpec(redis=RedisRef(address=""))
MAX_DEPTH = 64
"""The limit of a chain of owners. A longer one is considered circular: people can write owner references too."""


def manager_of(manifest: Manifest) -> tuple[str, str] | None:
    """Return name and uid of the agent that created this one; None if no agent did."""
    owners = agent_owners(manifest)
    return (owners[0].name, owners[0].uid) if owners else None


def managers_of(manifest: Manifest, find: Find) -> list[str]:
    """Return the uids of the agent's manager, the manager's manager and so on, its own manager first."""
    uids: list[str] = []
    while len(uids) < MAX_DEPTH and (found := manager_of(manifest)):
        uids.append(found[1])
        above = find(found[0])
        if above is None or above["metadata"]["uid"] != found[1]:
            break
        manifest = above
    return uids


def require_own(manager: Agent, manifest: Manifest, find: Find) -> None:
    """Raise `Forbidden` (`not_your_agent`) for an agent that neither the manager nor one of its agents created."""
    if manager.metadata.uid not in managers_of(manifest, find):
        name = manifest["metadata"]["name"]
        raise Forbidden(
            f"agent {name!r} is not one of yours: you act only on agents that you made", code="not_your_agent"
        )


def children(manager: Agent, manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return the agents that the manager itself created and that are not being deleted."""
    return [
        each
        for each in manifests
        if (found := manager_of(each))
        and found[1] == manager.metadata.uid
        and not each["metadata"].get("deletionTimestamp")
    ]


def require_room(manager: Agent, manifest: Manifest, find: Find, siblings: int, config: Config | None) -> None:
    """Raise `Forbidden` (`too_deep`, `too_many_agents`) if the platform's limits allow no further agent."""
    limits = config.spec if config else DEFAULTS
    depth = len(managers_of(manifest, find)) + 1
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
    """Return the spec of an agent that may do no more than its manager. Raises `Invalid` (`not_yours_to_give`)."""
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
    """Return the metadata by which a child belongs to its manager."""
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": AGENTS.kind,
        "name": manager.metadata.name,
        "uid": manager.metadata.uid,
        "controller": True,
    }
    return {"labels": {names.OFFICE_LABEL: names.office_name(manager.metadata.name)}, "ownerReferences": [owner]}


def task_id_of(manager: Agent, manager_task: str, call: str | None) -> str:
    """Return the id of the task that a tool call assigns. A repeated call gets the same id, so the task runs once."""
    if not call:
        return str(ULID())
    digest = hashlib.sha256(f"{manager.metadata.uid} {manager_task} {call}".encode()).digest()
    return str(ULID(ULID.from_str(manager_task).bytes[:6] + digest[:10]))
