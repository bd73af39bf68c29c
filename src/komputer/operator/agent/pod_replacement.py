"""Decides when an agent's pod is replaced. Pure.

A running pod is not replaced because its template has changed. It is replaced if its runtime is silent, or if the
gateway has another address now: the runtime would retry the old one for ever. The next pod resumes the task.
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
"""The delay before a failed pod is replaced. The values are kubelet's for containers."""
COUNT_RESET_AFTER: Final = timedelta(minutes=10)
"""The life of a pod after which the counts of failed and silent pods start again at this pod."""
MAX_SILENT_PODS: Final = 3
"""Consecutive silent pods after which the task ends with `runtime_lost`. Each of them takes
`SilenceLimits.replace_after` and the pod's grace period."""
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
    """Return the number of consecutive silent pods, including this one."""
    return _count(pod, now, names.SILENT_ANNOTATION) + 1


def failures(pod: Manifest, now: datetime) -> int:
    """Return the number of consecutive pods that failed before this one. It is 0 once this one has lived for
    `COUNT_RESET_AFTER`."""
    return _count(pod, now, names.REMADE_ANNOTATION)


def _has_old_gateway(pod: Manifest, desired: Manifest) -> bool:
    """Return whether the pod's runtime uses an old address of the gateway. Return False for a pod without the
    annotation, which an earlier version created."""
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
