"""Plain values that the operator's decisions are tried on."""

from datetime import UTC, datetime, timedelta
from typing import Any

from ulid import ULID

from komputer.domain.agent import Agent, digest_of
from komputer.domain.base import Condition, Manifest
from komputer.domain.config import ConfigSpec
from komputer.domain.template import TemplateSpec
from komputer.events.log import Live, LogEntry
from komputer.operator.agent.children import desired_children
from komputer.operator.agent.observed import Blocker, Observed

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
UID = "7f0c9a52-0000-4000-8000-000000000001"
OLD_UID = "7f0c9a52-0000-4000-8000-000000000000"
CONFIG = ConfigSpec.model_validate({"redis": {"address": "redis:6379"}, "gatewayURL": "http://gateway:8081"})
TEMPLATE = TemplateSpec.model_validate({"podSpec": {"containers": [{"name": "agent", "image": "komputer-agent"}]}})


def task_id(n: int, at: datetime = NOW - timedelta(hours=1)) -> str:
    """A ULID of that moment, always the same for one n."""
    milliseconds = int(at.timestamp() * 1000)
    return str(ULID.from_bytes(milliseconds.to_bytes(6, "big") + n.to_bytes(10, "big")))


def at(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def agent(
    *, name: str = "ada", spec: Manifest | None = None, status: Manifest | None = None, generation: int = 1
) -> Agent:
    return Agent.model_validate(
        {
            "metadata": {"name": name, "namespace": "team", "uid": UID, "generation": generation},
            "spec": {"instructions": "A", **(spec or {})},
            "status": status or {},
        }
    )


def assigned(n: int, instructions: str = "do", *, digest_for: str = "A", covers: str | None = None) -> Manifest:
    """`spec.task`, as the API writes it."""
    cover: Manifest = {"digest": digest_of(digest_for)}
    if covers:
        cover["manifestTaskID"] = covers
    return {"id": task_id(n), "instructions": instructions, "covers": cover}


def manifest_task(n: int, instructions: str = "A", moment: datetime = NOW - timedelta(hours=1)) -> Manifest:
    return {"digest": digest_of(instructions), "id": task_id(n, moment)}


def ready(status: str, reason: str, since: datetime) -> Manifest:
    return Condition(
        type="Ready",
        status=status,
        reason=reason,
        last_transition_time=at(since),
    ).to_wire()


def made(which: Agent | None = None) -> dict[str, Manifest]:
    found = desired_children(which or agent(), TEMPLATE, CONFIG)
    assert isinstance(found, dict)
    return found


def owned(kind: str, name: str, uid: str | None = UID, *, going_since: datetime | None = None) -> Manifest:
    """A child with a controller: this agent, an earlier one of its name, or (None) nobody."""
    metadata: Manifest = {"name": name, "namespace": "team", "uid": f"uid-of-{name}", "resourceVersion": "5"}
    if uid:
        metadata["ownerReferences"] = [
            {
                "apiVersion": "komputer.komputer.ai/v1alpha1",
                "kind": "KomputerAgent",
                "name": "ada",
                "uid": uid,
                "controller": True,
            }
        ]
    if going_since:
        metadata["deletionTimestamp"] = at(going_since)
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def pod(
    *,
    uid: str | None = UID,
    phase: str = "Running",
    state: Manifest | None = None,
    restarts: int = 0,
    created: datetime = NOW - timedelta(minutes=5),
    going_since: datetime | None = None,
    remade: int = 0,
    silent: int = 0,
    **status: Any,
) -> Manifest:
    """By default: it has run for five minutes."""
    found = owned("Pod", "ada-pod", uid, going_since=going_since)
    found["metadata"]["creationTimestamp"] = at(created)
    counts = {"komputer.ai/remade": remade, "komputer.ai/silent": silent}
    if remade or silent:
        found["metadata"]["annotations"] = {name: str(count) for name, count in counts.items() if count}
    found["spec"] = {"containers": [{"name": "agent"}]}
    running = {"running": {"startedAt": at(created)}}
    container = {"name": "agent", "state": running if state is None else state, "restartCount": restarts}
    found["status"] = {"phase": phase, "containerStatuses": [container], "startTime": at(created), **status}
    return found


def pvc(uid: str | None = UID, size: str = "5Gi") -> Manifest:
    return owned("PersistentVolumeClaim", "ada-pvc", uid) | {"spec": {"resources": {"requests": {"storage": size}}}}


def settings(uid: str | None = UID) -> Manifest:
    return owned("ConfigMap", "ada-config", uid) | {"data": made()["settings"]["data"]}


def live(task: str | None, *, ended: bool = False, observed: datetime = NOW, **fields: Any) -> Live:
    given: dict[str, Any] = {
        "task_status": "Complete" if ended else "InProgress",
        "outcome": "completed" if ended else None,
        "message": "Calling Bash: ls",
        "last_id": "1-0",
        "last_at": "2026-01-31T11:59:59.000000Z",
        "session_id": "s-1",
    }
    return Live(
        uid=UID, task_id=task, has_ended=ended, seen_us=int(observed.timestamp() * 1e6), term=1, **(given | fields)
    )


def end(n: int, kind: str, task: str, **payload: Any) -> LogEntry:
    """The n-th end."""
    return LogEntry(f"{1000 + n}-0", kind, f"2026-01-31T11:00:{n:02d}.000000Z", {"task_id": task, **payload})


def completed(n: int, task: str, cost: float = 0.5, **payload: Any) -> LogEntry:
    told = {"result": "done", "duration_ms": 10, "turns": 1, "session_id": "s-1", **payload}
    return end(n, "task_completed", task, cost_usd=cost, **told)


def observed(which: Agent | None = None, **changes: Any) -> Observed:
    """By default: an agent of whose children all exist, whose pod runs, and whose runtime has just been heard."""
    who = which or agent()
    children = {"pvc": pvc(), "settings": settings(), "pod": pod()}
    children |= {key: changes.pop(key) for key in tuple(children) if key in changes}
    given: dict[str, Any] = {
        "agent": who,
        "desired": desired_children(who, TEMPLATE, CONFIG),
        "config": CONFIG,
        "children": {key: child for key, child in children.items() if child is not None},
        "live": live(None, ended=True, observed=changes.get("now", NOW)),
        "gateway_since": NOW - timedelta(hours=1),
        "now": NOW,
    }
    return Observed(**(given | changes))


def without_template(who: Agent) -> dict[str, Manifest] | Blocker:
    return desired_children(who, Blocker("TemplateMissing", "there is none"), CONFIG)
