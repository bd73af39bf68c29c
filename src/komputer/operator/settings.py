"""Settings of the operator."""

from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, kw_only=True)
class SilenceLimits:
    """How long the runtime of a running pod may send nothing, counted only while a gateway is alive."""

    report_after: timedelta = timedelta(seconds=30)
    """Until the condition Ready is False with the reason RuntimeSilent. Three heartbeats (`wire.HEARTBEAT_S`)."""
    replace_after: timedelta = timedelta(seconds=60)
    """Until the pod is deleted and another one created. Longer than a runtime's delay between attempts to reach the
    gateway (at most 5 s) and than its time-outs (30 s)."""


@dataclass(frozen=True, kw_only=True)
class OperatorSettings:
    namespaces: tuple[str, ...] | None = None
    """The namespaces whose agents are reconciled; None: all."""
    concurrency: int = 32
    """Agents that are reconciled at the same time. Each waits for a few short requests and computes for about a
    millisecond; a guess, unmeasured beyond 200 agents."""
    sweep_every: timedelta = timedelta(minutes=5)
    """How often logs are compared with agents, to delete the logs of deleted agents."""
    retry_every: timedelta = timedelta(seconds=15)
    """How often to repeat what the API server refused, and to check an object that has a child's name and no label, and
    is therefore not watched."""
    silence: SilenceLimits = field(default_factory=SilenceLimits)
