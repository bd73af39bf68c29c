"""What stands around one agent now: from the store and the log, to one value."""

from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from komputer.domain import names
from komputer.domain.agent import Agent
from komputer.domain.base import Manifest
from komputer.domain.config import Config, ConfigSpec
from komputer.domain.connector import Connector, is_connector_name
from komputer.domain.template import Template, TemplateSpec
from komputer.events.log import Live, LogEntry
from komputer.kube.kinds import CLUSTER_TEMPLATES, CONFIG_MAPS, CONFIGS, CONNECTORS, PODS, PVCS, TEMPLATES
from komputer.operator.agent.blockers import moment_of_us
from komputer.operator.agent.observed import Fault, Observed, desired
from komputer.operator.cluster_state import ClusterState
from komputer.redis.presence import Alive

R = TypeVar("R", bound=BaseModel)


class LogState(NamedTuple):
    """What the log says of an agent. `answers` is False where it cannot be asked."""

    live: Live | None
    ends: tuple[LogEntry, ...]
    alive: Alive | None = None
    answers: bool = True


NOTHING_HEARD = LogState(None, (), answers=False)


def observe(store: ClusterState, agent: Agent, heard: LogState, refused: str | None, now: datetime) -> Observed:
    """`heard.live` of another agent of this name counts for nothing. Times of the log's server are brought to the clock
    of `now`, so that clocks which differ make nobody silent."""
    now_us = int(now.timestamp() * 1e6)

    def at_our_clock(us: int) -> int:
        """Never in the future: what was just heard of is heard of now."""
        return min(now_us, us + now_us - heard.alive.now_us) if heard.alive else us

    since = heard.alive.since_us if heard.alive else None
    live = heard.live if heard.live and heard.live.uid == agent.metadata.uid else None
    namespace, name = agent.metadata.namespace, agent.metadata.name
    config = _config(store)
    return Observed(
        agent=agent,
        desired=desired(agent, _template(store, agent), config),
        config=None if isinstance(config, Fault) else config,
        pvc=store.get(PVCS, namespace, names.pvc_name(name)),
        settings=store.get(CONFIG_MAPS, namespace, names.settings_name(name)),
        pod=store.get(PODS, namespace, names.pod_name(name)),
        live=live._replace(seen_us=at_our_clock(live.seen_us)) if live else None,
        ends=heard.ends,
        log_answers=heard.answers,
        gateway_since=None if since is None else moment_of_us(at_our_clock(since)),
        refused=refused,
        connectors=_connectors(store, agent),
        now=now,
    )


def _connectors(store: ClusterState, agent: Agent) -> dict[str, Connector | None]:
    """Of those that the agent names; None for one that is not there, is going, or cannot be read."""
    found: dict[str, Connector | None] = {}
    for name in agent.spec.connectors or ():
        manifest = store.get(CONNECTORS, agent.metadata.namespace, name) if is_connector_name(name) else None
        read = _read(Connector, manifest) if manifest else "missing"
        found[name] = None if isinstance(read, str) or read.is_terminating else read
    return found


def _template(store: ClusterState, agent: Agent) -> TemplateSpec | Fault:
    """A template of the agent's namespace wins over a cluster template of its name."""
    name = agent.spec.template_ref
    found = store.get(TEMPLATES, agent.metadata.namespace, name) or store.get(CLUSTER_TEMPLATES, None, name)
    if found is None:
        return Fault("TemplateMissing", f"there is no KomputerAgentTemplate or KomputerAgentClusterTemplate {name!r}")
    read = _read(Template, found)
    return Fault("TemplateInvalid", f"template {name!r}: {read}") if isinstance(read, str) else read.spec


def _config(store: ClusterState) -> ConfigSpec | Fault:
    found = store.get(CONFIGS, None, names.CONFIG_NAME)
    if found is None:
        return Fault("ConfigMissing", f"there is no KomputerConfig {names.CONFIG_NAME!r}")
    read = _read(Config, found)
    return (
        Fault("ConfigInvalid", f"KomputerConfig {names.CONFIG_NAME!r}: {read}") if isinstance(read, str) else read.spec
    )


def _read(kind: type[R], manifest: Manifest) -> R | str:
    """The object, or what is wrong with it."""
    try:
        return kind.model_validate(manifest)
    except ValidationError as wrong:
        return first_error(wrong)


def first_error(wrong: ValidationError) -> str:
    first: Any = wrong.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
