"""The real parts' values in the model's words. Pure. `names`: the model's names of tasks, by their ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from komputer.domain.agent import Agent, digest_of
from komputer.domain.base import Manifest
from komputer.events.schema import TaskCancelled, TaskCompleted, from_wire
from komputer.runtime.ledger import ledger as ledgers
from komputer.runtime.ledger import rules
from tests.model.state import TEXTS, Claim, How, Kind, Ledger, Outgoing, Owed, Recorded, Resource

PHASES: Final[Mapping[ledgers.Phase, Literal[0, 1, 2]]] = {"written": 0, "acted": 1, "ended": 2}


def number(uid: str) -> int:
    return int(uid.removeprefix("uid-"))


def how(event: Any) -> How:
    """Of an end."""
    if isinstance(event, TaskCompleted):
        return "done"
    if isinstance(event, TaskCancelled):
        return "cancelled"
    return "workspace_lost" if event.code == "workspace_lost" else "elsewhere"


def order(out: Iterable[Outgoing]) -> list[tuple[object, ...]]:
    return [(each.n, each.kind, each.task, each.generation) for each in out]


def count(messages: Mapping[str, int], heard: str | None) -> int | None:
    """How many messages there were up to this one. `messages`: which one each was to its task, by their ids."""
    return heard if heard is None else messages.get(heard, 0)


def outgoing(names: Mapping[str, str], entry: ledgers.Outgoing, heard: int | None = None) -> Outgoing:
    """`heard`: how many messages a completion has."""
    kind: Kind = "start" if entry.type == "task_started" else "end" if entry.is_end else "text"
    end = how(from_wire(entry.type, entry.payload)) if entry.is_end else None
    return Outgoing(entry.seq, kind, names[entry.task_id], end, entry.generation, heard)


def ledger(names: Mapping[str, str], messages: Mapping[str, int], real: ledgers.Ledger) -> Ledger:
    def out(entry: ledgers.Outgoing) -> Outgoing:
        return outgoing(names, entry, count(messages, rules.acked_by(real, entry)))

    return Ledger(
        term=real.term,
        n=real.seq,
        generation=real.generation,
        task=names[real.task.id] if real.task else None,
        phase=PHASES[real.task.phase] if real.task else 0,
        out=tuple(out(entry) for entry in real.outbox),
        owed=tuple(Owed(names[task], out(entry).how or "done") for task, entry in real.owed.items()),
        closed=frozenset(names[task] for task in real.closed),
        told=len(real.task.messages) if real.task else 0,
        heard=count(messages, real.task.acked_message_id) or 0 if real.task else 0,
    )


def resource(names: Mapping[str, str], manifest: Manifest, edits: int, counted: Iterable[str]) -> Resource:
    """`edits`: how often the manifest was edited so far; `counted`: the tasks whose cost was."""
    agent = Agent.model_validate(manifest)
    task, recorded, cancel = agent.spec.task, agent.status.manifest_task, agent.spec.cancel_task_id
    letters = {digest_of(text): text for text in TEXTS}
    covered = task.covers.manifest_task_id if task else None
    return Resource(
        uid=number(agent.metadata.uid),
        generation=agent.metadata.generation,
        edits=edits if agent.spec.instructions == TEXTS[edits] else TEXTS.index(agent.spec.instructions),
        task=Claim(names[task.id], letters[task.covers.digest], names[covered] if covered else None) if task else None,
        cancel=names[cancel] if cancel else None,
        recorded=Recorded(letters[recorded.digest], names[recorded.id]) if recorded else None,
        ended=tuple(names[each] for each in agent.status.ended_tasks),
        counted=tuple(counted),
    )
