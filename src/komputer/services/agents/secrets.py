"""Secrets for agents' tools: an agent's own, made of a create call's `secrets`, and those that people make by name.

Values go in and never come out: the gateway alone reads them, for the assignment of a task.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from komputer.domain import names, secret
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest, fields_of, texts_in
from komputer.domain.config import Config
from komputer.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from komputer.kube import SECRETS, Cluster

ATTEMPTS: Final = 4
ABANDONED_AFTER: Final = timedelta(seconds=30)
"""An agent's Secret is made a moment before its agent; one without an owner that is older was left by a process that
died in between. Longer than any request of ours takes."""


class SecretStore:
    """`configs` are those of the platform, which say what is its own."""

    def __init__(self, cluster: Cluster, configs: Callable[[], Sequence[Config]]) -> None:
        self._cluster = cluster
        self._configs = configs

    # ---- an agent's ------------------------------------------------------------------------------------------------
    async def refuse_unusable(self, namespace: str, wanted: Sequence[str] | None) -> None:
        """Raises `Invalid` naming the first Secret that is not there, or is none for agents."""
        for name in wanted or ():
            try:
                found = await self._cluster.get(SECRETS, name, namespace)
            except NotFound:
                raise Invalid(
                    f"secretRefs: there is no Secret {name!r} in namespace {namespace!r}",
                    code="unknown_secret",
                    field="secretRefs",
                ) from None
            if not secret.is_for_agents(found, self._configs()):
                raise Invalid(
                    f"secretRefs: Secret {name!r} is the platform's own or a connector's, and not for agents",
                    code="unusable_secret",
                    field="secretRefs",
                )

    async def give(
        self, namespace: str, name: str, data: Mapping[str, str], request: str, agent: Manifest | None
    ) -> str:
        """Make `data` all that the Secret of agent `name` holds; the answer is its uid, which the agent's spec records.

        `agent` is None while it is yet to be made: then the Secret belongs to `request` until `adopt`. Raises
        `Conflict` where a stranger's Secret has the name: it is neither taken over nor changed.
        """
        wanted = secret.own_secret(name, namespace, data, request)
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
                if not _may_take(found, request, agent):
                    await self._remove_abandoned(found)
                    continue
                changes = [{"op": "add", "path": "/data", "value": wanted["data"]}]
                if agent is not None:
                    changes.append({"op": "add", "path": "/metadata/ownerReferences", "value": [_owner(agent)]})
                await self._cluster.json_patch(SECRETS, found["metadata"]["name"], namespace, [*_same(found), *changes])
            except (Conflict, NotFound) as moved:
                if moved.code in ("secret_exists", "secret_in_use"):
                    raise
                continue
            return str(found["metadata"]["uid"])
        raise Unavailable(f"the Secret of agent {name!r} changed too often; try again", code="contended")

    async def _remove_abandoned(self, found: Manifest) -> None:
        """Of an agent that is gone, or that was never made."""
        made_at = datetime.fromisoformat(found["metadata"]["creationTimestamp"])
        if not found["metadata"].get("ownerReferences") and datetime.now(UTC) - made_at < ABANDONED_AFTER:
            raise Conflict(
                f"another request is just making agent {found['metadata']['labels'][names.AGENT_LABEL]!r}; try again",
                code="secret_in_use",
            )
        metadata = found["metadata"]
        await self._cluster.delete(SECRETS, metadata["name"], metadata["namespace"], uid=metadata["uid"])

    async def adopt(self, agent: Manifest) -> None:
        """Let the agent own the Secret that its spec records, so that it is deleted with it. Safe to repeat."""
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
            return  # deleted by somebody: nothing is left to own

    async def discard(self, namespace: str, name: str, uid: str | None) -> None:
        """The agent is not made, or gone: its Secret goes too, if it is still that one."""
        if uid is None:
            return
        try:
            await self._cluster.delete(SECRETS, names.secrets_name(name), namespace, uid=uid)
        except (Conflict, NotFound, Unavailable):
            return  # the garbage collector takes it with its agent; one without an owner is taken at the next use

    # ---- by name ---------------------------------------------------------------------------------------------------
    async def list(
        self, namespace: str | None, agents: Sequence[Manifest], *, include_unmanaged: bool
    ) -> list[dict[str, Any]]:
        """Of Secrets what may be shown: names and keys. Without `include_unmanaged` only those that this API made."""
        labels = None if include_unmanaged else f"{secret.MANAGED_LABEL}={secret.MANAGED}"
        found = (await self._cluster.list(SECRETS, namespace, labels)).items
        configs = self._configs()
        shown = [shown_secret(manifest, agents) for manifest in found if not secret.is_platforms(manifest, configs)]
        return sorted(shown, key=lambda each: (each["namespace"], each["name"]))

    async def create(self, namespace: str, name: str, data: Mapping[str, str], request: str) -> Manifest:
        """Raises `Conflict` (`exists`), but not where this very request has made it before."""
        labels = {secret.MANAGED_LABEL: secret.MANAGED, secret.NAME_LABEL: secret.label_value(name)}
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        metadata["annotations"] = {secret.FOR_ANNOTATION: request}
        manifest = {"metadata": metadata, "type": "Opaque", "data": secret.encoded(data)}
        try:
            return await self._cluster.create(SECRETS, manifest)
        except Conflict:
            found = await self._cluster.get(SECRETS, name, namespace)
            if (found["metadata"].get("annotations") or {}).get(secret.FOR_ANNOTATION) == request:
                return found
            raise Conflict(
                f"there is a Secret {name!r} in namespace {namespace!r} already; PATCH replaces its data", code="exists"
            ) from None

    async def replace(self, namespace: str, name: str, data: Mapping[str, str]) -> None:
        """All of its data; what runs keeps the old values, the next task gets the new ones."""
        found = await self._ours(namespace, name)
        operations = [*_same(found), {"op": "add", "path": "/data", "value": secret.encoded(data)}]
        try:
            await self._cluster.json_patch(SECRETS, name, namespace, operations)
        except Conflict as replaced:
            raise NotFound(f"Secret {name!r} was deleted meanwhile", code="secret_not_found") from replaced

    async def delete(self, namespace: str, name: str) -> None:
        found = await self._ours(namespace, name)
        await self._cluster.delete(SECRETS, name, namespace, uid=found["metadata"]["uid"])

    async def _ours(self, namespace: str, name: str) -> Manifest:
        try:
            found = await self._cluster.get(SECRETS, name, namespace)
        except NotFound:
            raise NotFound(f"there is no Secret {name!r} in namespace {namespace!r}", code="secret_not_found") from None
        if not secret.is_managed(found):
            raise Forbidden(
                f"Secret {name!r} in namespace {namespace!r} was not made by this API, so it is not changed here; "
                "use kubectl",
                code="not_ours",
            )
        return found


def shown_secret(manifest: Manifest, agents: Sequence[Manifest]) -> dict[str, Any]:
    """SecretResponse. `agents`: all there are; which of them use it is seen in their specs."""
    metadata = manifest["metadata"]
    using = sorted(
        each["metadata"]["name"]
        for each in agents
        if each["metadata"]["namespace"] == metadata["namespace"] and _uses(each, manifest)
    )
    body: dict[str, Any] = {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "keys": sorted(manifest.get("data") or {}),
        "managed": secret.is_managed(manifest),
        "attachedAgents": len(using),
        "createdAt": metadata["creationTimestamp"],
    }
    agent = (metadata.get("labels") or {}).get(names.AGENT_LABEL)
    return body | ({"agentName": agent} if agent else {}) | ({"agentNames": using} if using else {})


def _uses(agent: Manifest, found: Manifest) -> bool:
    spec, metadata = fields_of(agent, "spec"), found["metadata"]
    return metadata["name"] in texts_in(spec.get("secrets")) or metadata["uid"] == spec.get("secretsUID")


def _is_of(found: Manifest, agent: str) -> bool:
    """Made by this API for an agent of this name, be it this one or one before."""
    labels = found["metadata"].get("labels") or {}
    owners = found["metadata"].get("ownerReferences") or ()
    return (
        secret.is_managed(found)
        and labels.get(names.AGENT_LABEL) == agent
        and all(owner.get("kind") == Agent.kind_name and owner.get("name") == agent for owner in owners)
    )


def _may_take(found: Manifest, request: str, agent: Manifest | None) -> bool:
    owners = found["metadata"].get("ownerReferences") or ()
    made_for = (found["metadata"].get("annotations") or {}).get(secret.FOR_ANNOTATION)
    if agent is None:
        return not owners and made_for == request
    uid, recorded = agent["metadata"]["uid"], fields_of(agent, "spec").get("secretsUID")
    is_recorded = recorded is not None and recorded == found["metadata"]["uid"]
    return any(owner.get("uid") == uid for owner in owners) or (not owners and (is_recorded or made_for == request))


def _owner(agent: Manifest) -> Manifest:
    return Agent.as_controller(agent["metadata"]["name"], agent["metadata"]["uid"])


def _same(found: Manifest) -> list[dict[str, Any]]:
    return [{"op": "test", "path": "/metadata/uid", "value": found["metadata"]["uid"]}]
