"""The parts of one gateway, and how they depend on each other."""

from dataclasses import dataclass

from komputer.events.follow.notifier import Notifier
from komputer.events.log import Log
from komputer.gateway.agents.access import PodAccess
from komputer.gateway.agents.identity import Identity
from komputer.gateway.agents.intake import Intake
from komputer.gateway.agents.open_tasks import OpenTasks
from komputer.gateway.agents.secrets import TaskSecrets
from komputer.gateway.agents.streams import AssignmentReader, AssignmentStreams
from komputer.gateway.caches import Caches
from komputer.gateway.connectors.directory import ConnectorDirectory
from komputer.gateway.connectors.proxy import ConnectorProxy
from komputer.gateway.managers.actions import ManagerActions
from komputer.gateway.managers.cascade import CancelCascade
from komputer.gateway.managers.endpoint import ManagerEndpoint
from komputer.gateway.managers.waiting import Waiter
from komputer.gateway.metrics import GatewayMetrics
from komputer.gateway.model.assigned import AssignedModels
from komputer.gateway.model.proxy import ModelProxy
from komputer.gateway.model.upstream import Upstream
from komputer.gateway.quota import Quotas
from komputer.gateway.settings import GatewaySettings
from komputer.kube import CacheChange, Cluster
from komputer.services.agents.agents import Agents
from komputer.services.agents.overlay import Overlay
from komputer.services.agents.secrets import AgentSecrets
from komputer.services.connectors.egress import EgressClient


@dataclass(frozen=True, kw_only=True)
class ManagerServer:
    """The MCP server for managers: its endpoint, its tools' actions, and the cascade of cancels."""

    endpoint: ManagerEndpoint
    actions: ManagerActions
    cascade: CancelCascade

    @classmethod
    def build(
        cls, agents: Agents, caches: Caches, log: Log, notifier: Notifier, access: PodAccess, quotas: Quotas
    ) -> "ManagerServer":
        cascade = CancelCascade(agents, caches.agents)
        actions = ManagerActions(agents, caches, log, Waiter(agents, log, notifier), cascade)
        return cls(endpoint=ManagerEndpoint(access, actions, quotas), actions=actions, cascade=cascade)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of one gateway. Their state can be read again after a restart, so a restart loses nothing."""

    log: Log
    notifier: Notifier
    caches: Caches
    access: PodAccess
    intake: Intake
    streams: AssignmentStreams
    quotas: Quotas
    metrics: GatewayMetrics
    upstream: Upstream
    egress: EgressClient
    model: ModelProxy
    connectors: ConnectorProxy
    managers: ManagerServer

    @classmethod
    def build(cls, settings: GatewaySettings, cluster: Cluster, log: Log) -> "Parts":
        notifier = Notifier(log.notifications())
        caches = Caches(settings, cluster)
        identity = Identity(settings, cluster, caches.agents, caches.pods)
        access = PodAccess(identity, OpenTasks(log))
        quotas, metrics = Quotas.of(settings), GatewayMetrics(tuple(caches))
        upstream, egress = Upstream(settings), EgressClient(settings.addresses, settings.connect_timeout)
        # This overlay of progress from the log stays empty: the gateway's decisions read the log itself.
        agents = Agents(cluster, caches.agents, Overlay(log, notifier, tuple), log, AgentSecrets(cluster))

        def reader() -> AssignmentReader:
            return AssignmentReader(TaskSecrets(cluster, caches.all_configs), caches.config)

        directory = ConnectorDirectory(cluster, caches)
        return cls(
            log=log,
            notifier=notifier,
            caches=caches,
            access=access,
            intake=Intake(log, metrics.tasks, identity),
            streams=AssignmentStreams(settings, identity, log, notifier, reader),
            quotas=quotas,
            metrics=metrics,
            upstream=upstream,
            egress=egress,
            model=ModelProxy(access, AssignedModels(log), upstream, quotas, metrics),
            connectors=ConnectorProxy(access, directory, egress, quotas, log.health()),
            managers=ManagerServer.build(agents, caches, log, notifier, access, quotas),
        )

    def agent_changed(self, change: CacheChange) -> None:
        if change.type == "DELETED":
            self.access.agent_deleted(change)
            self.intake.forget(change.manifest["metadata"]["uid"])
        self.streams.agent_changed(change)
        self.managers.actions.agent_changed(change)
        self.managers.cascade.agent_changed(change)
