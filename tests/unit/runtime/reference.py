"""The log as the protocol states it, in plain Python, and a world around one ledger that goes wrong at random."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

from komputer.events.schema import AgentText, TaskCancelled, TaskCompleted
from komputer.protocol import wire
from komputer.runtime.ledger import rules
from komputer.runtime.ledger.ledger import Ledger, OpenTask, Outgoing

UID = "uid-1"


@dataclass
class ReferenceLog:
    """Step 9 of the protocol, in its order."""

    entries: list[tuple[str, str]] = field(default_factory=list)
    """Task and type; a text's type is followed by what it says."""
    term: int = 0
    taken: dict[int, int] = field(default_factory=dict)
    generation: int = 0

    @property
    def started(self) -> set[str]:
        return {task for task, kind in self.entries if kind == "task_started"}

    @property
    def ended(self) -> set[str]:
        return {task for task, kind in self.entries if kind in ("task_completed", "task_cancelled", "error")}

    def hello(self, body: wire.Hello, term: int) -> wire.Welcome:
        old = self.taken.get(body.term, 0)
        self.term, self.taken[term] = term, 0
        return wire.Welcome(
            uid=UID,
            term=term,
            last_seq=old,
            started=[task for task in body.tasks if task in self.started],
            ended=[task for task in body.tasks if task in self.ended],
            open=sorted(self.started - self.ended),
        )

    def message(self, task: str, n: int) -> None:
        self.entries.append((task, f"user_message {n}"))

    def messages(self) -> list[wire.TaskMessage]:
        """Those to the open task."""
        return [
            wire.TaskMessage(id=f"{kind.split()[1]}-0", task_id=task, content="x")
            for task, kind in self.entries
            if kind.startswith("user_message") and task not in self.ended
        ]

    def append(self, term: int, entry: Outgoing, heard: str | None) -> wire.AppendResult:
        taken = self.taken.get(term, 0)
        if term != self.term or term not in self.taken:
            return "fenced"
        if entry.seq <= taken:
            return "duplicate"
        if entry.seq != taken + 1:
            return "gap"
        if entry.task_id in self.ended:
            return "ended"
        if entry.type == "task_started" and entry.task_id in self.started:
            return "started"
        if entry.type == "task_started" and entry.generation is not None and entry.generation < self.generation:
            return "stale"
        newest = [int(each.id[:-2]) for each in self.messages() if each.task_id == entry.task_id]
        if heard is not None and newest and newest[-1] > int(heard[:-2]):
            return "unacknowledged"
        self.taken[term] = entry.seq
        self.generation = max(self.generation, entry.generation or 0)
        self.entries.append((entry.task_id, " ".join((entry.type, *filter(None, [entry.payload.get("content")])))))
        return "ok"

    def pulse(self, term: int, tasks: Sequence[str]) -> wire.Pulse:
        current = self.term if self.term in self.taken else 0
        return wire.Pulse(
            term=current, last_seq=self.taken.get(term, 0), ended=[task for task in tasks if task in self.ended]
        )


class World:
    """One agent: resource, log, one living runtime, its workspace, and posts that arrive late."""

    def __init__(self) -> None:
        self.log = ReferenceLog()
        self.kept = deepcopy(self.log)
        """What the log cannot lose any more."""
        self.ledger = Ledger()
        self.is_introduced = False
        self.clock = 0
        self.assigned: list[str] = []
        self.generation = 1
        self.cancelled: str | None = None
        self.accounted: list[str] = []
        self.late: list[tuple[int, Outgoing, str | None]] = []
        self.spoken: dict[str, list[str]] = {}
        """Ids of messages that were accepted, by task."""
        self.answered: set[str] = set()
        self.prompted: list[str] = []
        self.said = 0
        self.lost: set[str] = set()

    @property
    def assignment(self) -> wire.Assignment:
        return wire.Assignment(
            uid=UID,
            name="ada",
            namespace="team",
            generation=self.generation,
            task=wire.AssignedTask(id=self.assigned[-1], instructions="do it") if self.assigned else None,
            cancel_task_id=self.cancelled,
            accounted=self.accounted,
            settings=wire.TaskSettings(model="m", role="worker"),
        )

    # ---- people and the operator ----

    def assign(self) -> None:
        over = self.log.ended | set(self.accounted)
        if not self.assigned or (self.assigned[-1] in over and not self.log.started - over):
            self.assigned.append(f"t{len(self.assigned) + 1}")
            self.generation += 1

    def cancel(self) -> None:
        if self.assigned:
            self.cancelled = self.assigned[-1]
            self.generation += 1

    def account(self) -> None:
        self.accounted += sorted(self.log.ended - set(self.accounted))

    def speak(self) -> None:
        """To the task that runs. It is on the log's disk when it is answered."""
        for task in self.log.started - self.log.ended:
            n = sum(map(len, self.spoken.values())) + 1
            self.spoken.setdefault(task, []).append(f"{n}-0")
            self.log.message(task, n)
            self.settle()

    def settle(self) -> None:
        """The log's disk has it all."""
        self.kept = deepcopy(self.log)

    # ---- the runtime ----

    def hello(self) -> None:
        self.clock += 1
        welcome = self.log.hello(rules.hello(self.ledger), self.clock)
        self.ledger = rules.after_hello(self.ledger, welcome, self.accounted)
        self.is_introduced = True
        self.see()

    def see(self) -> None:
        if self.is_introduced:
            self.ledger = rules.after_assignment(self.ledger, self.assignment)

    def begin(self) -> None:
        task = rules.next_task(self.ledger, self.assignment) if self.is_introduced else None
        if task:
            new = OpenTask(
                id=task.id,
                instructions=task.instructions,
                generation=self.generation,
                settings=wire.TaskSettings(model="m", role="worker"),
                session_id="s",
                is_resuming=False,
                prompt_uuid="u",
                started_at=0.0,
            )
            self.ledger = rules.with_task(self.ledger, new)

    def prompt(self) -> None:
        task = self.ledger.task
        if self.is_introduced and task and task.phase == "written" and rules.is_started(self.ledger, task.id):
            self.prompted.append(task.id)
            self.ledger = replace(self.ledger, task=replace(task, phase="acted"))

    def say(self) -> None:
        task = self.ledger.task
        if task and task.phase == "acted":
            self.said += 1
            self.ledger = rules.with_event(self.ledger, AgentText(task_id=task.id, content=f"{self.said}"))

    def hear(self) -> None:
        if self.is_introduced:
            for message in self.log.messages():
                self.ledger = rules.with_message(self.ledger, message)

    def answer(self) -> None:
        task = self.ledger.task
        if task and task.phase == "acted" and task.messages:
            self.answered |= {message.id for message in task.messages}
            self.ledger = replace(self.ledger, task=replace(task, acked_message_id=task.messages[-1].id))

    def complete(self) -> None:
        task = self.ledger.task
        if task and task.phase == "acted" and not task.has_unanswered_message:
            end = TaskCompleted(task_id=task.id, result="done", cost_usd=0.1, duration_ms=1, turns=1)
            self.ledger = rules.with_end(self.ledger, end)

    def heed_cancel(self) -> None:
        if self.is_introduced and rules.is_cancelled(self.ledger, self.assignment):
            assert self.ledger.task
            self.ledger = rules.with_end(self.ledger, TaskCancelled(task_id=self.ledger.task.id, reason="asked"))

    def post(self, answer_is_lost: bool = False) -> None:
        if not self.is_introduced or not self.ledger.outbox:
            return
        entry = self.ledger.outbox[0]
        answer = self.log.append(self.ledger.term, entry, rules.acked_by(self.ledger, entry))
        if answer_is_lost:
            return
        self.ledger = rules.after_post(self.ledger, answer)
        if answer in rules.REQUIRES_HELLO:
            self.is_introduced = False
        self.see()

    def beat(self) -> None:
        if self.is_introduced:
            claimed = rules.claim(self.ledger)
            if rules.lacks(claimed, self.log.pulse(claimed.term, claimed.owed), self.accounted):
                self.is_introduced = False

    # ---- faults ----

    def crash(self) -> None:
        self.is_introduced = False

    def lose_workspace(self) -> None:
        if "log" not in self.lost:
            self.ledger, self.is_introduced = Ledger(), False
            self.lost.add("workspace")

    def lose_tail_of_log(self) -> None:
        if "workspace" not in self.lost:
            self.log = deepcopy(self.kept)
            self.lost.add("log")

    def delay_post(self) -> None:
        if self.is_introduced and self.ledger.outbox:
            first = self.ledger.outbox[0]
            self.late.append((self.ledger.term, first, rules.acked_by(self.ledger, first)))

    def deliver_late(self) -> None:
        if self.late:
            self.log.append(*self.late.pop(0))

    # ---- how it goes on ----

    PROGRESS = (
        *("hello", "see", "begin", "prompt", "heed_cancel", "say"),
        *("hear", "answer", "complete", "post", "account", "beat"),
    )

    def progress(self, first: int) -> bool:
        """The first step from this one on, in a circle, that changes anything; `say` only where it is the first."""
        for offset in range(len(self.PROGRESS)):
            step = self.PROGRESS[(first + offset) % len(self.PROGRESS)]
            if step == "say" and offset:
                continue
            before = self._visible()
            if step != "hello" or not self.is_introduced:
                getattr(self, step)()
            if self._visible() != before:
                return True
        return False

    def come_to_rest(self) -> None:
        """Progress alone, until nothing changes any more."""
        for _ in range(500):
            if not self.progress(0):
                return
        raise AssertionError("does not come to rest")

    def _visible(self) -> tuple[object, ...]:
        return self.ledger, self.is_introduced, list(self.log.entries), list(self.accounted), self.clock

    def check(self) -> None:
        """What the protocol promises."""
        by_task: dict[str, list[str]] = {}
        for task, kind in self.log.entries:
            by_task.setdefault(task, []).append(kind)
        for task, kinds in by_task.items():
            ends = [kind for kind in kinds if kind in ("task_completed", "task_cancelled", "error")]
            assert len(ends) <= 1, (task, kinds)
            assert kinds.count("task_started") <= 1, (task, kinds)
            assert not ends or kinds[-1] in ends, (task, kinds)
            assert len(set(kinds)) == len(kinds), (task, kinds)
            assert len(kinds) == 1 or kinds[0] == "task_started", (task, kinds)
            if ends == ["task_completed"]:
                assert set(self.spoken.get(task, ())) <= self.answered, (task, kinds, self.answered)
        if "workspace" not in self.lost:
            assert len(set(self.prompted)) == len(self.prompted), self.prompted

    def check_at_rest(self) -> None:
        self.check()
        assert set(self.assigned) <= set(self.accounted), (self.assigned, self.accounted, self.ledger)
        assert self.log.started <= self.log.ended | set(self.accounted)
        assert self.ledger.task is None
        assert not self.ledger.outbox
        assert not self.ledger.owed
