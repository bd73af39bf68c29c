"""An agent's own Secret: the `secrets` of the request that created or assigned it. Values are never returned.

Only the gateway reads the values, for the assignment of a task.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from komputer.domain import names, secret
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest, fields_of
from komputer.domain.errors import Conflict, NotFound, Unavailable
from komputer.kube import SECRETS, Cluster

ATTEMPTS: Final = 4
ABANDONED_AFTER: Final = timedelta(seconds=30)
"""Age from which a Secret without an owner is abandoned. An agent's Secret is created shortly before the agent, so an
older one was left by a process that crashed in between. Longer than any request takes."""


class AgentSecrets:
    """Creates and deletes the Secrets that belong to agents."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def give(
        self, namespace: str, name: str, data: Mapping[str, str], request_id: str, agent: Manifest | None
    ) -> str:
        """Replace the content of the Secret of agent `name`. Return its uid, which the agent's spec records.

        `agent` is None if it does not exist yet: then the Secret belongs to the request until `adopt`. Raises
        `Conflict` if an unrelated Secret has the name; it is not changed.
        """
        wanted = secret.own_secret(name, namespace, data, request_id)
        if agent is not None:
            wanted["metadata"]["ownerReferences"] = [_owner(agent)]
        for _ in range(ATTEMPTS):
            try:
                return str((await self._cluster.create(SECRETS, wanted))["metadata"]["uid"])
            except Conflict:
                pass
            try:
                found = await self._cluster.get(SECRETS, wanted["metadata"]["name"], namespace)
                if not _is_of(found, name):
                    raise Conflict(
                        f"there is a Secret {namespace}/{names.secrets_name(name)} that is not this agent's; "
                        "rename or delete it, or name the agent otherwise",
                        code="secret_exists",
                    )
                if not _may_replace(found, request_id, agent):
                    await self._remove_abandoned(found)
                    continue
                changes = [{"op": "add", "path": "/data", "value": wanted["data"]}]
                if agent is not None:
                    changes.append({"op": "add", "path": "/metadata/ownerReferences", "value": [_owner(agent)]})
                await self._cluster.json_patch(SECRETS, found["metadata"]["name"], namespace, [*_same(found), *changes])
            except (Conflict, NotFound) as error:
                if error.code in ("secret_exists", "secret_in_use"):
                    raise
                continue
            return str(found["metadata"]["uid"])
        raise Unavailable(f"the Secret of agent {name!r} changed too often; try again", code="contended")

    async def _remove_abandoned(self, found: Manifest) -> None:
        """Delete the Secret of an agent that was deleted or never created. Raises `Conflict` (`secret_in_use`) while
        another request may be about to create the agent."""
        created_at = datetime.fromisoformat(found["metadata"]["creationTimestamp"])
        if not found["metadata"].get("ownerReferences") and datetime.now(UTC) - created_at < ABANDONED_AFTER:
            raise Conflict(
                f"another request is just making agent {found['metadata']['labels'][names.AGENT_LABEL]!r}; try again",
                code="secret_in_use",
            )
        metadata = found["metadata"]
        await self._cluster.delete(SECRETS, metadata["name"], metadata["namespace"], uid=metadata["uid"])

    async def adopt(self, agent: Manifest) -> None:
        """Make the agent the owner of the Secret that its spec records, so that they are deleted together. Safe to
        repeat."""
        uid = fields_of(agent, "spec").get("secretsUID")
        if uid is None:
            return
        operations = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/metadata/ownerReferences", "value": [_owner(agent)]},
        ]
        metadata = agent["metadata"]
        try:
            await self._cluster.json_patch(
                SECRETS, names.secrets_name(metadata["name"]), metadata["namespace"], operations
            )
        except (Conflict, NotFound):
            return  # the Secret was deleted: there is nothing to own

    async def discard(self, namespace: str, name: str, uid: str | None) -> None:
        """Delete the Secret of an agent that was not created, or was deleted, unless it has been replaced."""
        if uid is None:
            return
        try:
            await self._cluster.delete(SECRETS, names.secrets_name(name), namespace, uid=uid)
        except (Conflict, NotFound, Unavailable):
            return  # garbage collection deletes it with its owner; without one, the next `give` replaces it


def _is_of(found: Manifest, agent: str) -> bool:
    """Return whether this API created the Secret for an agent of this name, the present one or an earlier one."""
    labels = found["metadata"].get("labels") or {}
    owners = found["metadata"].get("ownerReferences") or ()
    return (
        secret.is_managed(found)
        and labels.get(names.AGENT_LABEL) == agent
        and all(owner.get("kind") == Agent.kind_name and owner.get("name") == agent for owner in owners)
    )


def _may_replace(found: Manifest, request_id: str, agent: Manifest | None) -> bool:
    """Return whether the Secret belongs to the agent or, if that does not exist yet, to the request."""
    owners = found["metadata"].get("ownerReferences") or ()
    made_for = (found["metadata"].get("annotations") or {}).get(secret.FOR_ANNOTATION)
    if agent is None:
        return not owners and made_for == request_id
    uid, recorded = agent["metadata"]["uid"], fields_of(agent, "spec").get("secretsUID")
    is_recorded = recorded is not None and recorded == found["metadata"]["uid"]
    return any(owner.get("uid") == uid for owner in owners) or (not owners and (is_recorded or made_for == request_id))


def _owner(agent: Manifest) -> Manifest:
    return Agent.as_controller(agent["metadata"]["name"], agent["metadata"]["uid"])


def _same(found: Manifest) -> list[dict[str, Any]]:
    return [{"op": "test", "path": "/metadata/uid", "value": found["metadata"]["uid"]}]
