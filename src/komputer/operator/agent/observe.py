"""Collects what concerns one agent, from the caches and the log, into one value."""

from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from komputer.domain import names
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest
from komputer.domain.config import Config, ConfigSpec
from komputer.domain.connector import Connector, is_connector_name
from komputer.domain.template import Template, TemplateSpec
from komputer.events.log import Live, LogEntry
from komputer.kube.kinds import CLUSTER_TEMPLATES, CONFIGS, CONNECTORS, TEMPLATES
from komputer.operator.agent.children import CHILDREN, desired_children
from komputer.operator.agent.observed import Blocker, Observed
from komputer.operator.agent.pod_status import time_of_us
from komputer.operator.cluster_state import ClusterState
from komputer.operator.settings import SilenceLimits
from komputer.redis.presence import GatewayPresence

R = TypeVar("R", bound=BaseModel)


class LogState(NamedTuple):
    """The state of an agent's log. `answers` is False where the log's server does not answer."""

    live: Live | None
    ends: tuple[LogEntry, ...]
    alive: GatewayPresence | None = None
    answers: bool = True


NO_ANSWER: Final = LogState(None, (), answers=False)


def observe(
    state: ClusterState,
    agent: Agent,
    log_state: LogState,
    *,
    refused: str | None = None,
    silence: SilenceLimits,
    now: datetime,
) -> Observed:
    """Return what concerns `agent` at the time `now`. `log_state.live` is ignored if it is of an earlier agent of this
    name. Times of the log's server are converted to the clock of `now`: otherwise a runtime could seem silent because
    the clocks differ."""
    now_us = int(now.timestamp() * 1e6)

    def by_our_clock(us: int) -> int:
        """Return the log's time by the clock of `now`, and never a time in the future."""
        return min(now_us, us + now_us - log_state.alive.now_us) if log_state.alive else us

    since = log_state.alive.since_us if log_state.alive else None
    live = log_state.live if log_state.live and log_state.live.uid == agent.metadata.uid else None
    config = _config(state)
    return Observed(
        agent=agent,
        desired=desired_children(agent, _template(state, agent), config),
        children=_children(state, agent),
        config=None if isinstance(config, Blocker) else config,
        live=live._replace(seen_us=by_our_clock(live.seen_us)) if live else None,
        ends=log_state.ends,
        log_answers=log_state.answers,
        gateway_since=None if since is None else time_of_us(by_our_clock(since)),
        refused=refused,
        connectors=_connectors(state, agent),
        silence=silence,
        now=now,
    )


def _children(state: ClusterState, agent: Agent) -> dict[str, Manifest]:
    namespace, name = agent.metadata.namespace, agent.metadata.name
    found = {child.key: state.get(child.kind, namespace, child.name(name)) for child in CHILDREN}
    return {key: manifest for key, manifest in found.items() if manifest is not None}


def _connectors(state: ClusterState, agent: Agent) -> dict[str, Connector | None]:
    """Return the connectors that the agent names; None for one that is missing, terminating or invalid."""
    found: dict[str, Connector | None] = {}
    for name in agent.spec.connectors or ():
        manifest = state.get(CONNECTORS, agent.metadata.namespace, name) if is_connector_name(name) else None
        read = _read(Connector, manifest) if manifest else "missing"
        found[name] = None if isinstance(read, str) or read.is_terminating else read
    return found


def _template(state: ClusterState, agent: Agent) -> TemplateSpec | Blocker:
    """Return the agent's template, or why it cannot be used. A template in the agent's namespace takes precedence over
    a cluster template of the same name."""
    name = agent.spec.template_ref
    found = state.get(TEMPLATES, agent.metadata.namespace, name) or state.get(CLUSTER_TEMPLATES, None, name)
    if found is None:
        return Blocker("TemplateMissing", f"there is no KomputerAgentTemplate or KomputerAgentClusterTemplate {name!r}")
    read = _read(Template, found)
    return Blocker("TemplateInvalid", f"template {name!r}: {read}") if isinstance(read, str) else read.spec


def _config(state: ClusterState) -> ConfigSpec | Blocker:
    found = state.get(CONFIGS, None, names.CONFIG_NAME)
    if found is None:
        return Blocker("ConfigMissing", f"there is no KomputerConfig {names.CONFIG_NAME!r}")
    read = _read(Config, found)
    return (
        Blocker("ConfigInvalid", f"KomputerConfig {names.CONFIG_NAME!r}: {read}")
        if isinstance(read, str)
        else read.spec
    )


def _read(kind: type[R], manifest: Manifest) -> R | str:
    """Return the typed object, or a sentence about its first error."""
    try:
        return kind.model_validate(manifest)
    except ValidationError as wrong:
        return first_error(wrong)


def first_error(wrong: ValidationError) -> str:
    first: Any = wrong.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
