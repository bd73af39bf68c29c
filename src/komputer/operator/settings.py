"""What one may choose about the operator."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True)
class OperatorSettings:
    namespaces: tuple[str, ...] | None = None
    """Whose agents are seen to; None: all."""
    at_once: int = 32
    """Agents that are worked on side by side. Each turn waits for a few short requests and computes for about a
    millisecond; a guess, unmeasured beyond 200 agents."""
    sweep_every: timedelta = timedelta(minutes=5)
    """How often logs are compared with agents, to drop those of agents that are gone."""
    retry_every: timedelta = timedelta(seconds=15)
    """How often to try again what the API server refuses, and to look whether an object in the way has gone that is
    not watched, since it bears no label."""
