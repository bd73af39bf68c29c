"""The secret variables of a task, read from Secrets when the task is assigned: a change applies to the next task."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from komputer.domain import names, secret
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest
from komputer.domain.config import Config
from komputer.domain.errors import Forbidden, Invalid, NotFound, Unavailable
from komputer.domain.tasks import WantedTask, wanted
from komputer.kube import SECRETS, Cluster

log = structlog.get_logger(__name__)

RETRY_AFTER_S: Final = 1.0
"""The pause after which Secrets that could not be read are read again. The task is not assigned before they are."""


class TaskSecrets:
    """The variables for one assignment stream. They are read once per task, and again if the agent names other
    Secrets."""

    def __init__(self, cluster: Cluster, configs: Callable[[], Sequence[Config]]) -> None:
        self._cluster = cluster
        self._configs = configs
        self._read_for: object = None
        self._environment: dict[str, str] = {}

    async def environment(self, agent: Agent) -> dict[str, str] | None:
        """Return `SECRET_…` variables, or None if the Secrets cannot be read now. A Secret that does not exist adds no
        variables."""
        spec = agent.spec
        if not spec.secrets and spec.secrets_uid is None:
            return {}
        task = wanted(spec, agent.status)
        reading = (task.id if isinstance(task, WantedTask) else None, spec.secrets, spec.secrets_uid)
        if reading != self._read_for:
            try:
                self._environment = await self._read(agent)
            except Unavailable as error:
                log.warning("secrets not read", agent=agent.key, error=error.message)
                return None
            self._read_for = reading
        return self._environment

    async def _read(self, agent: Agent) -> dict[str, str]:
        own, *others = await asyncio.gather(
            self._one(agent, names.secrets_name(agent.metadata.name) if agent.spec.secrets_uid else None),
            *(self._one(agent, name) for name in agent.spec.secrets or ()),
        )
        if own is not None and own["metadata"]["uid"] != agent.spec.secrets_uid:
            own = None
        named = zip(agent.spec.secrets or (), others, strict=True)
        return secret.environment(own, {name: found for name, found in named if found is not None})

    async def _one(self, agent: Agent, name: str | None) -> Manifest | None:
        """Return the Secret; None if it does not exist or agents may not have it. This is checked here because a
        manifest may name any Secret."""
        if name is None:
            return None
        try:
            found = await self._cluster.get(SECRETS, name, agent.metadata.namespace)
        except (NotFound, Forbidden, Invalid) as error:
            log.warning("secret not given to an agent", agent=agent.key, secret=name, reason=error.code)
            return None
        if not secret.is_for_agents(found, self._configs()):
            log.warning("secret not given to an agent", agent=agent.key, secret=name, reason="not for agents")
            return None
        return found
