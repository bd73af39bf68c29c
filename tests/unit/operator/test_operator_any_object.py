"""Whatever stands in the objects and in the log, a decision is made: nothing of it has to be as we know it."""

from datetime import datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from komputer.events.log import Live
from komputer.operator.agent.decide import decide
from komputer.operator.agent.observe import LogState, observe
from komputer.operator.cluster_state import ClusterState
from komputer.operator.settings import SilenceLimits
from komputer.redis.presence import GatewayPresence
from tests.unit.operator.given import NOW, UID, agent, manifest_task, observed, pod, task_id

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("2026-01-31T12:00:00")
anything = (
    scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.sampled_from(["a", "name"]), scalars, max_size=2)
)
container = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("agent") | anything,
        "state": st.dictionaries(
            st.sampled_from(["running", "waiting", "terminated"]),
            anything | st.dictionaries(st.sampled_from(["reason", "startedAt", "message", "exitCode"]), anything),
            max_size=2,
        )
        | anything,
        "lastState": anything,
        "restartCount": st.integers(0, 9) | anything,
    },
)
containers = st.lists(container | anything, max_size=2) | anything
status = st.fixed_dictionaries(
    {},
    optional={
        "phase": st.sampled_from(["Pending", "Running", "Failed", "Unknown"]) | anything,
        "reason": anything,
        "message": anything,
        "startTime": anything,
        "conditions": st.lists(st.dictionaries(st.sampled_from(["type", "status", "reason"]), anything)) | anything,
        "containerStatuses": containers,
        "initContainerStatuses": containers,
    },
)
metadata = st.fixed_dictionaries(
    {},
    optional={
        "creationTimestamp": anything,
        "annotations": anything
        | st.dictionaries(st.sampled_from(["komputer.ai/remade", "komputer.ai/silent"]), anything),
    },
)


@given(status | anything, metadata, anything)
@settings(deadline=None, max_examples=100)
def test_a_decision_is_made_whatever_a_pod_says_of_itself(told: Any, more: dict[str, Any], spec: Any) -> None:
    found = pod()
    found["status"], found["spec"] = told, spec
    found["metadata"] |= more
    who = agent(status={"manifestTask": manifest_task(1)})
    for heard in (None, observed().live):
        decided = decide(observed(who, pod=found, live=heard), task_id(9))
        assert decided.status.to_wire()


@given(st.integers(), st.integers(0), st.none() | st.integers())
def test_any_numbers_in_the_log_are_times_or_none(seen_us: int, now_us: int, since_us: int | None) -> None:
    live = Live(UID, task_id(1), False, None, None, None, None, None, seen_us, 1, None)
    store = ClusterState(None, None, wake=lambda *_: None)  # type: ignore[arg-type]
    log_state = LogState(live, (), GatewayPresence(now_us, since_us))
    found = observe(store, agent(), log_state, silence=SilenceLimits(), now=NOW)
    assert found.gateway_since is None or isinstance(found.gateway_since, datetime)
    assert decide(observed(live=found.live, gateway_since=found.gateway_since), task_id(9)).status
