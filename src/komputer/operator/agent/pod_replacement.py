"""When an agent's pod is replaced. Pure.

A running pod is left alone, whatever has changed in its template, unless its runtime is silent, or the gateway has
moved and it would retry the old address for ever. Its task is resumed in the next pod.
"""

from datetime import datetime, timedelta
from typing import Final

from komputer.backoff import Backoff
from komputer.domain import names
from komputer.domain.base import Manifest
from komputer.operator.agent.child import Replacement
from komputer.operator.agent.observed import Observed
from komputer.operator.agent.pod_status import created_at, phase_of
from komputer.operator.agent.silence import is_lost

BACKOFF: Final = Backoff(10.0, 300.0)
"""Before a pod that failed is replaced. The values are kubelet's for containers."""
COUNT_RESET_AFTER: Final = timedelta(minutes=10)
"""A pod that lived for so long counts as the first to fail or to be silent."""
MAX_SILENT_PODS: Final = 3
"""Silent pods in a row after which the task ends with `runtime_lost`. Each takes `SilenceLimits.replace_after` and its
pod's grace period."""
_MAX_COUNT: Final = 100


def replacement(observed: Observed, pod: Manifest, desired: Manifest) -> Replacement | None:
    if _has_old_gateway(pod, desired):
        return Replacement()
    if is_lost(observed):
        silent = silent_pods(pod, observed.now)
        return Replacement(annotations=_annotations(silent=silent % MAX_SILENT_PODS), after_endings=True)
    if phase_of(pod) not in ("Failed", "Succeeded"):
        return None
    failed = failures(pod, observed.now)
    due = created_at(pod) + BACKOFF.delay(failed + 1)
    return Replacement(due=due, annotations=_annotations(failed=failed + 1))


def silent_pods(pod: Manifest, now: datetime) -> int:
    """Return the number of silent pods in a row, this one included."""
    return _count(pod, now, names.SILENT_ANNOTATION) + 1


def failures(pod: Manifest, now: datetime) -> int:
    """Return the number of pods in a row that failed before this one; 0 if this one lived long."""
    return _count(pod, now, names.REMADE_ANNOTATION)


def _has_old_gateway(pod: Manifest, desired: Manifest) -> bool:
    """Return whether the pod's runtime uses another address of the gateway. A pod without the annotation was created by
    an earlier version, and is left alone."""
    known = _annotation(pod, names.GATEWAY_ANNOTATION)
    return known is not None and known != _annotation(desired, names.GATEWAY_ANNOTATION)


def _annotations(failed: int = 0, silent: int = 0) -> dict[str, str]:
    counts = {names.REMADE_ANNOTATION: failed, names.SILENT_ANNOTATION: silent}
    return {annotation: str(count) for annotation, count in counts.items() if count}


def _count(pod: Manifest, now: datetime, annotation: str) -> int:
    if now - created_at(pod) >= COUNT_RESET_AFTER:
        return 0
    value = _annotation(pod, annotation)
    return min(int(value), _MAX_COUNT) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else 0


def _annotation(pod: Manifest, name: str) -> object:
    annotations = pod["metadata"].get("annotations")
    return annotations.get(name) if isinstance(annotations, dict) else None
