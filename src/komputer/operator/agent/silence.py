"""Decides whether a runtime is silent, and since when. Pure."""

from datetime import datetime

from komputer.domain.base import Manifest
from komputer.operator.agent.observed import Observed, is_ours
from komputer.operator.agent.pod_status import (
    agent_container,
    created_at,
    dict_in,
    parse_time,
    pod_is_running,
    state_of,
    time_of_us,
)


def silent_since(observed: Observed) -> datetime | None:
    """Return the time since which the runtime of a running pod could have sent something and has not. None if that is
    unknown: there is no running pod, no gateway is alive, or the log does not answer."""
    if observed.pod is None or not observed.log_answers or observed.gateway_since is None:
        return None
    if not is_ours(observed.pod, observed.agent) or not pod_is_running(observed.pod):
        return None
    return max(last_sign_of_life(observed, observed.pod), observed.gateway_since)


def is_lost(observed: Observed) -> bool:
    """Return whether the runtime has been silent for `SilenceLimits.replace_after`, so that its pod is replaced."""
    since = silent_since(observed)
    return since is not None and observed.now >= since + observed.silence.replace_after


def last_sign_of_life(observed: Observed, pod: Manifest) -> datetime:
    """Return when the runtime was last active, or when its container started."""
    started = dict_in(state_of(agent_container(pod)), "running").get("startedAt")
    signs = [created_at(pod), parse_time(started)]
    if observed.live and observed.live.seen_us:
        signs.append(time_of_us(observed.live.seen_us))
    return max(signs)
