"""Settings of the operator."""

from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, kw_only=True)
class SilenceLimits:
    """How long the runtime of a running pod may send nothing, counted only while a gateway is alive."""

    report_after: timedelta = timedelta(seconds=30)
    """The time until the condition Ready is False with the reason RuntimeSilent: three heartbeats (`wire.HEARTBEAT_S`).
    """
    replace_after: timedelta = timedelta(seconds=60)
    """The time until the pod is deleted and another one is created. It is longer than a runtime's delay between
    attempts to reach the gateway (at most 5 s) and than its time-outs (30 s)."""


@dataclass(frozen=True, kw_only=True)
class OperatorSettings:
    namespaces: tuple[str, ...] | None = None
    """The namespaces whose agents are reconciled; None: all."""
    concurrency: int = 32
    """How many agents are reconciled concurrently. Each waits for a few short requests and computes for about a
    millisecond. A guess, unmeasured beyond 200 agents."""
    sweep_every: timedelta = timedelta(minutes=5)
    """How often logs are compared with agents, to delete the logs of deleted agents."""
    retry_every: timedelta = timedelta(seconds=15)
    """How often to repeat a write that the API server refused, and to check an object that has a child's name but no
    label: such an object is not watched."""
    silence: SilenceLimits = field(default_factory=SilenceLimits)
