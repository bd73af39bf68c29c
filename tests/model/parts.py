"""The real parts in one process, taken through the same things as the model and held to it.

Real: the log's script on a real server, the API's claim and cancel, the operator's decisions, the gateway's assignment,
the runtime's ledger. Only what they act on is made here: one resource that takes their patches, and time, which is the
order in which a test lets them act. Every answer is compared with the model's, and after each step the model's
invariants are asked of what the parts have become.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from redis.asyncio import Redis
from ulid import ULID

from komputer.domain.agent import Agent, AgentStatus
from komputer.domain.base import Manifest
from komputer.domain.errors import Conflict
from komputer.domain.ref import ObjectRef
from komputer.domain.tasks import Unrecorded, WantedTask, current_task, is_busy, tasks_named, wanted
from komputer.events.entries import task_of
from komputer.events.log import Live, Log, LogEntry, LogKey, Numbered
from komputer.events.schema import AgentText, TaskCancelled, TaskCompleted, TaskFailed, TaskStarted, from_wire
from komputer.gateway.agents.assignment import assignment
from komputer.gateway.agents.intake import Admitted, admitted, is_known
from komputer.local.apiserver.errors import StatusError
from komputer.local.apiserver.patch import json_patch, merge_patch
from komputer.operator.agent.decide import Decision, decide
from komputer.operator.agent.endings import Ending, cancelled
from komputer.operator.agent.observed import Observed
from komputer.operator.agent.status import merge_patch as status_patch
from komputer.protocol import wire
from komputer.runtime.ledger import ledger as ledgers
from komputer.runtime.ledger import rules
from komputer.runtime.ledger.ledger import OpenTask
from komputer.services.agents import claim
from tests.model import pods, referee, words
from tests.model.invariants import broken
from tests.model.state import (
    BUSY,
    TEXTS,
    Ledger,
    Post,
    Resource,
    View,
    World,
)
from tests.model.state import Log as ModelLog
from tests.model.system import System
from tests.unit.operator import given

REF: Final = ObjectRef("team", "ada")
OPERATORS: Final = 0
"""The term of posts that carry none."""
Step = Callable[["Parts"], Awaitable[None]]


@dataclass
class Pod:
    """A runtime: its ledger, and whether the log knows it."""

    uid: str
    ledger: ledgers.Ledger = field(default_factory=ledgers.Ledger)
    is_introduced: bool = False


@dataclass
class Decided:
    """What an operator has computed from a copy of the resource and not written yet."""

    manifest: Manifest
    decision: Decision
    ends: tuple[LogEntry, ...]


class Parts:
    """`make` one, let steps happen, `come_to_rest`, `check_at_rest`. Raises `AssertionError` where parts and model
    differ, or where the model's invariants do not hold."""

    def __init__(self, log: Log, redis: Redis, prefix: str, *, by_api: bool) -> None:
        self.log, self._redis, self._prefix = log, redis, prefix
        self.system = System()
        self.names: dict[str, str] = {}
        """The model's names of tasks, by their ids: `t1.2` is the second that the API gave to the first agent."""
        self.known = View()
        """What the model says that the log knows."""
        self.saved: tuple[View, dict[bytes, bytes]] = (View(), {})
        self.edits, self.incarnation = 0, 0
        self.ghost: Pod | None = None
        self.late: list[tuple[str, int, ledgers.Outgoing]] = []
        self.wrong: str | None = None
        self.losses: set[str] = set()
        self.costs: dict[str, float] = {}
        self.messages: dict[str, int] = {}
        """By their ids: the how manieth message to its task it was."""
        self._create(by_api=by_api)

    def _create(self, *, by_api: bool) -> None:
        self.incarnation += 1
        self.edits = 0
        self.claims: list[str] = []
        self.recorded: list[str] = []
        self.prompts: list[str] = []
        self.counted: list[str] = []
        self.reads: list[Manifest] = []
        self.decided: Decided | None = None
        name, task = REF.name, str(ULID())
        made = claim.new_agent(name, REF.namespace, claim.NewTask(task, TEXTS[0]), {"model": "m"})
        if by_api:
            self.names[task] = f"t{self.incarnation}.1"
            self.claims.append(self.names[task])
        else:
            del made["spec"]["task"]
        made["metadata"] |= {"uid": f"uid-{self.incarnation}", "generation": 1, "resourceVersion": "1"}
        self.manifest: Manifest = made | {"status": {}}
        self.seen = copy.deepcopy(self.manifest)
        self.stale: Manifest | None = None
        self.pod = Pod(self.uid)
        self.losses.discard("workspace")

    @property
    def uid(self) -> str:
        return str(self.manifest["metadata"]["uid"])

    def _written(self, new: Manifest) -> None:
        """The API server's part."""
        metadata = new["metadata"]
        if new["spec"] != self.manifest["spec"]:
            metadata["generation"] += 1
        metadata["resourceVersion"] = str(int(self.manifest["metadata"]["resourceVersion"]) + 1)
        self.manifest = new

    # ---- people ----------------------------------------------------------------------------------------------------
    async def a_post_reads(self) -> None:
        if len(self.reads) < 2:
            self.reads.append(copy.deepcopy(self.manifest))

    async def a_post_claims(self) -> None:
        """On what it read a while ago, or now."""
        read = self.reads.pop(0) if self.reads else copy.deepcopy(self.manifest)
        agent, live = Agent.model_validate(read), await self._live()
        idle = not is_busy(agent.spec, agent.status, task_of(live, agent.metadata.uid))
        assert idle == self.system.is_idle(self._resource(read), self._world()), (read, live)
        if not idle:
            return
        task = str(ULID())
        try:
            patched = json_patch(self.manifest, claim.assign(read, claim.NewTask(task, f"do {len(self.claims)}"), {}))
        except StatusError:
            return
        over = {*self._ended_ever(), *self._status().ended_tasks}
        held = self.pod.ledger.task
        runs = held.id if held and self.names[held.id] in self.known.started else None
        want = wanted(Agent.model_validate(self.manifest).spec, self._status(), over)
        before = runs if runs not in over else None if want is None or isinstance(want, Unrecorded) else want.id
        if before:
            self.wrong = f"(5) 2xx while {self.names[before]} is wanted or runs"
        self._written(patched)
        self.names[task] = f"t{self.incarnation}.{len(self.claims) + 1}"
        self.claims.append(self.names[task])

    async def the_manifest_is_edited(self) -> None:
        if self.edits + 1 < len(TEXTS):
            self.edits += 1
            self._written(merge_patch(self.manifest, {"spec": {"instructions": TEXTS[self.edits]}}))

    async def the_task_is_cancelled(self) -> None:
        agent = Agent.model_validate(self.manifest)
        task = current_task(agent.spec, agent.status, task_of(await self._live(), agent.metadata.uid))
        pending = agent.spec.cancel_task_id
        if task and (pending is None or pending in agent.status.ended_tasks):
            self._written(json_patch(self.manifest, claim.cancel(self.manifest, task)))

    async def somebody_speaks(self) -> None:
        """To the task that the log shows open; else nobody is heard."""
        live = await self._live()
        if live is None or live.task_id is None:
            return
        post = Post(words.number(self.uid), OPERATORS, 0, "message", self.names[live.task_id])
        said = await self.log.message(LogKey(*REF, self.uid), live.task_id, "word")
        assert self._expected(post) == ("ok" if said else "ended"), (post, self.known)
        if said is None:
            return
        self._accept(post)
        self.messages[said.id] = self.known.said[1]
        await self.the_log_reaches_the_disk()

    async def the_agent_is_made_again(self) -> None:
        """Its old pod lives on."""
        self.ghost = self.pod
        self._create(by_api=self.incarnation % 2 == 0)

    async def the_old_log_is_buried(self) -> None:
        for old in range(1, self.incarnation):
            await self.log.purge(LogKey(*REF, f"uid-{old}"))
            self.known = self.known._replace(dead=self.known.dead | {old})
            if self.known.uid == old:
                self.known = View(dead=self.known.dead)

    # ---- the operator ----------------------------------------------------------------------------------------------
    async def the_operator_works(self) -> None:
        await self.an_operator_decides()
        await self.an_operator_writes()

    async def an_operator_decides(self) -> None:
        """And tells the log of ends that no runtime will write."""
        manifest = copy.deepcopy(self.manifest)
        agent = Agent.model_validate(manifest)
        key = LogKey(*REF, agent.metadata.uid)
        live, ends = await self._live(), tuple(await self.log.ends_after(key, agent.status.last_event_id))
        pod = given.pod(uid=self.uid) if self.pod.is_introduced else None
        mine = live if live and live.uid == agent.metadata.uid else None
        seen = given.observed(agent, pod=pod, live=mine, ends=ends, now=datetime.now(UTC))
        decision = decide(seen, str(ULID()))
        for ending in decision.endings:
            answer = await self._end(seen, ending)
            if answer == "started":
                for more in cancelled(seen, decision.status, has_started=True).endings:
                    await self._end(seen, more)
        self.decided = Decided(manifest, decision, ends)

    async def _end(self, seen: Observed, ending: Ending) -> str:
        task = self.names[ending.event.task_id]
        generation, floor = seen.agent.metadata.generation, seen.agent.status.last_event_id
        post = Post(
            words.number(seen.agent.metadata.uid), OPERATORS, 0, "end", task, words.how(ending.event), generation
        )
        expected = self._expected(post)
        if expected == "ok" and ending.unless_started and task in self.known.started:
            expected = "started"
        key = LogKey(*REF, seen.agent.metadata.uid)
        answer = await self.log.end(
            key, ending.event, generation=generation, floor=floor, unless_started=ending.unless_started
        )
        if answer != expected and not (answer == "started" and expected == "ended"):
            raise AssertionError(f"{post}: the log says {answer}, the model {expected}")
        if answer == "ok":
            self._accept(post)
        return answer

    async def an_operator_writes(self) -> None:
        """What it had decided; the patch names the version that it was computed from."""
        decided, self.decided = self.decided, None
        if decided is None or decided.manifest["metadata"] != self.manifest["metadata"]:
            return
        old, new, found = self._status(), decided.decision.status, self.manifest["status"]
        if new == old:
            return
        self._written(self.manifest | {"status": merge_patch(found, status_patch(found, new))})
        fresh = [task for task in new.ended_tasks if task not in old.ended_tasks]
        costs = {entry.payload["task_id"]: entry.payload["cost_usd"] for entry in reversed(decided.ends)}
        counted = Decimal(new.total_cost_usd or 0) - Decimal(old.total_cost_usd or 0)
        assert counted == sum(Decimal(str(costs[task])) for task in fresh), (decided.ends, old, new)
        self.counted += [self.names[task] for task in fresh]
        task, record = Agent.model_validate(self.manifest).spec.task, new.manifest_task
        if task and record and not old.manifest_task and task.covers.digest == record.digest:
            assert record.id == task.id, "rule create: the manifest's first task is the API's"
        if record and record.id not in self.names:
            self.names[record.id] = f"m{self.incarnation}.{self.edits + 1}"
            self.recorded.append(str(self.edits))
        if new.last_event_id and new.last_event_id != old.last_event_id:
            await self.log.trim_ends(LogKey(*REF, self.uid), new.last_event_id)

    # ---- the gateway -----------------------------------------------------------------------------------------------
    async def the_gateway_sees(self) -> None:
        self.seen = copy.deepcopy(self.manifest)
        self._assigned()

    async def a_gateway_stops_watching(self) -> None:
        self.stale = self.stale or copy.deepcopy(self.manifest)

    async def the_stale_gateway_takes_over(self) -> None:
        if self.stale and self.stale["metadata"]["uid"] == self.uid:
            self.seen, self.stale = self.stale, None

    def _assignment(self) -> wire.Assignment:
        return assignment(Agent.model_validate(self.seen), None)

    def _floor(self) -> str | None:
        return Agent.model_validate(self.seen).status.last_event_id

    # ---- the runtime -----------------------------------------------------------------------------------------------
    def _assigned(self) -> None:
        if self.pod.is_introduced:
            self.pod.ledger = rules.after_assignment(self.pod.ledger, self._assignment())

    async def the_runtime_introduces_itself(self) -> None:
        if not self.pod.is_introduced:
            await self.the_runtime_says_hello()

    async def the_runtime_says_hello(self) -> None:
        """Its new ledger is the model's."""
        ledger = self.pod.ledger
        body = rules.hello(ledger)
        key = LogKey(*REF, self.uid)
        try:
            welcome = await self.log.hello(key, old_term=body.term, asked=body.tasks, floor=self._floor())
        except Conflict:
            assert words.number(self.uid) in self.known.dead
            return
        world = self._world()._replace(terms=welcome.term - 1)
        greeted = referee.after(self.known, Post(words.number(self.uid), welcome.term, 0, "hello"), owns=True)
        before = self.known if self.known.uid == words.number(self.uid) else greeted
        assert welcome.last_seq == dict(before.last).get(body.term, 0)
        assert self._named(welcome.started) == self._named(body.tasks) & before.started
        assert self._named(welcome.ended) == self._named(body.tasks) & before.ended
        assert self._named(welcome.open) == before.started - before.ended
        own = self._assignment() if self.seen["metadata"]["uid"] == self.uid else None
        after = rules.after_hello(ledger, welcome, own.accounted if own else ())
        if own:
            after = rules.after_assignment(after, own)
        self._same(words.ledger(self.names, self.messages, after), pods.hello(self.system, world).ledger)
        self.pod.ledger, self.pod.is_introduced, self.known = after, True, greeted

    @staticmethod
    def _same(real: Ledger, model: Ledger) -> None:
        def plain(ledger: Ledger) -> tuple[object, ...]:
            owed = sorted(each.task for each in ledger.owed)
            return ledger.term, ledger.n, ledger.task, ledger.generation, ledger.phase, owed, words.order(ledger.out)

        assert plain(real) == plain(model), (real, model)
        assert model.closed <= real.closed

    async def the_runtime_begins(self) -> None:
        assigned = self._assignment()
        task = rules.next_task(self.pod.ledger, assigned) if self.pod.is_introduced else None
        if task is None:
            return
        new = OpenTask(
            id=task.id,
            instructions=task.instructions,
            generation=assigned.generation,
            settings=wire.TaskSettings(model="m", role="worker"),
            session_id="s",
            is_resuming=False,
            prompt_uuid="u",
            started_at=0.0,
        )
        self.pod.ledger = rules.with_task(self.pod.ledger, new)

    async def the_prompt_is_given(self) -> None:
        ledger = self.pod.ledger
        task = ledger.task
        if self.pod.is_introduced and task and task.phase == "written" and rules.is_started(ledger, task.id):
            assert self.names[task.id] in self.known.started or "log" in self.losses, "rule wait_start"
            self.prompts.append(self.names[task.id])
            self.pod.ledger = replace(ledger, task=replace(task, phase="acted"))

    async def claude_says_something(self) -> None:
        task = self.pod.ledger.task
        if task and task.phase == "acted":
            self.pod.ledger = rules.with_event(self.pod.ledger, AgentText(task_id=task.id, content="word"))

    async def the_runtime_is_told(self) -> None:
        for entry in await self.log.messages(LogKey(*REF, self.uid), None):
            message = wire.TaskMessage(id=entry.id, task_id=entry.payload["task_id"], content="word")
            self.pod.ledger = rules.with_message(self.pod.ledger, message)

    async def claude_answers(self) -> None:
        task = self.pod.ledger.task
        if task and task.phase == "acted" and task.messages:
            self.pod.ledger = replace(self.pod.ledger, task=replace(task, acked_message_id=task.messages[-1].id))

    async def the_task_is_done(self) -> None:
        task = self.pod.ledger.task
        if self.pod.is_introduced and task and task.phase == "acted" and not task.has_unanswered_message:
            self.pod.ledger = rules.with_end(self.pod.ledger, self._done(task.id))

    def _done(self, task: str) -> TaskCompleted:
        cost = self.costs.setdefault(task, float(2 ** len(self.costs)))
        return TaskCompleted(task_id=task, result="done", cost_usd=cost, duration_ms=1, turns=1)

    async def the_runtime_heeds_the_cancel(self) -> None:
        task = self.pod.ledger.task
        if self.pod.is_introduced and task and rules.is_cancelled(self.pod.ledger, self._assignment()):
            end = TaskCancelled(task_id=task.id, reason="asked", cost_usd=self._done(task.id).cost_usd)
            self.pod.ledger = rules.with_end(self.pod.ledger, end)

    async def the_runtime_posts(self) -> None:
        if not self.pod.is_introduced:
            return
        for answer in await self._post(self.pod.uid, self.pod.ledger.term, self.pod.ledger.outbox):
            self.pod.ledger = rules.after_post(self.pod.ledger, answer)
            if answer in rules.REQUIRES_HELLO:
                self.pod.is_introduced = False
        self._assigned()

    async def a_post_gets_no_answer(self) -> None:
        if self.pod.is_introduced:
            await self._post(self.pod.uid, self.pod.ledger.term, self.pod.ledger.outbox[:1])

    async def the_runtime_sends_a_heartbeat(self) -> None:
        if not self.pod.is_introduced:
            return
        claimed = rules.claim(self.pod.ledger)
        pulse = await self.log.pulse(LogKey(*REF, self.uid), claimed.term, claimed.owed)
        mine = self.known.uid == words.number(self.uid)
        assert pulse.term == (self.known.term if mine else 0)
        lacks = rules.lacks(claimed, pulse, self._assignment().accounted)
        beats = list(pods.heartbeat(self.system, self._world()))
        assert lacks == bool(beats) or not mine or self.seen["metadata"]["uid"] != self.uid, (pulse, self._world())
        if lacks:
            self.pod.is_introduced = False

    # ---- what goes wrong -------------------------------------------------------------------------------------------
    async def the_pod_dies(self) -> None:
        self.pod = Pod(self.uid, self.pod.ledger)

    async def the_pod_seems_dead_and_speaks_on(self) -> None:
        self.ghost = Pod(self.pod.uid, self.pod.ledger)
        await self.the_pod_dies()

    async def the_workspace_is_lost(self) -> None:
        if "log" not in self.losses:
            self.pod = Pod(self.uid)
            self.losses.add("workspace")

    async def the_log_reaches_the_disk(self) -> None:
        keys = [key async for key in self._redis.scan_iter(f"{self._prefix}*")]
        dumps = {key: await self._redis.dump(key) for key in keys}
        self.saved = (self.known, {key: dump for key, dump in dumps.items() if dump is not None})

    async def the_log_loses_what_is_not_on_disk(self) -> None:
        if "workspace" in self.losses:
            return
        self.known, dumps = self.saved
        keys = [key async for key in self._redis.scan_iter(f"{self._prefix}*")]
        if keys:
            await self._redis.delete(*keys)
        for key, dump in dumps.items():
            await self._redis.restore(key, 0, dump)
        self.losses.add("log")

    async def a_post_is_delayed(self) -> None:
        if self.pod.is_introduced and self.pod.ledger.outbox:
            self.late.append((self.pod.uid, self.pod.ledger.term, self.pod.ledger.outbox[0]))

    async def a_late_post_arrives(self) -> None:
        if self.late:
            uid, term, entry = self.late.pop(0)
            await self._post(uid, term, (entry,))

    async def the_agent_forges_a_start(self) -> None:
        """It can do all that its runtime can, but it speaks of tasks that nobody has given to it, or that spec and
        status name and do not want now."""
        if not self.pod.is_introduced:
            return
        agent, live, before = Agent.model_validate(self.manifest), await self._live(), self._visible()
        task = wanted(agent.spec, agent.status)
        mine = {task.id} if isinstance(task, WantedTask) else set()
        seen = Agent.model_validate(self.seen)
        ahead = wanted(seen.spec, seen.status)
        mine |= {ahead.id} if isinstance(ahead, WantedTask) and seen.metadata.uid == self.uid else set()
        mine |= {live.task_id} if live and live.task_id and not live.has_ended else set()
        for named in sorted({str(ULID()), *tasks_named(agent.spec, agent.status), *agent.status.ended_tasks} - mine):
            await self._forge(named)
        assert self._visible() == before

    async def _forge(self, task: str) -> None:
        term = self.pod.ledger.term
        number = dict(self.known.last).get(term, 0) + 1
        said = AgentText(task_id=task, content="word")
        start = TaskStarted(task_id=task, instructions="mine", resuming_session=False, model="m")
        for event, generation in ((start, 99), (start, None), (said, None)):
            events = [Numbered(number, event, generation)]
            let_in, _ = self._admitted(self.pod.uid, events, await self._live())
            if let_in:
                key = LogKey(*REF, self.pod.uid)
                assert (await self.log.append(key, term, let_in, floor=self._floor()))[0] != "ok", "rule wanted"

    async def the_runtime_hangs(self) -> None:
        """Its pod is deleted when it has been silent for too long, and not before; the next one resumes."""
        if not self.pod.is_introduced:
            return
        manifest = copy.deepcopy(self.manifest)
        agent, live, now = Agent.model_validate(manifest), await self._live(), datetime.now(UTC)
        mine = live if live and live.uid == agent.metadata.uid else None
        for silent_for, has_gateway, is_deleted in ((29, True, False), (99, False, False), (99, True, True)):
            later = now + timedelta(seconds=silent_for)
            since = now if has_gateway else None
            pod = given.pod(uid=self.uid, created=now)
            seen = given.observed(agent, pod=pod, pvc=None, settings=None, live=mine, now=later, gateway_since=since)
            decision = decide(seen, str(ULID()))
            deleted = [step for step in decision.steps.all if step.verb == "delete"]
            assert bool(deleted) == is_deleted, "rule silence"
            assert not any(isinstance(ending.event, TaskFailed) for ending in decision.endings)
        await self.the_pod_dies()

    async def the_old_pod_speaks(self) -> None:
        """What it still had to send, a text, an end; until it is refused."""
        ghost = self.ghost
        if ghost is None:
            return
        task = ghost.ledger.task
        if not ghost.ledger.outbox:
            if task is None or task.phase != "acted":
                self.ghost = None
                return
            is_last = ghost.ledger.seq % 2 == 0
            said = AgentText(task_id=task.id, content="still here")
            ghost.ledger = (
                rules.with_end(ghost.ledger, self._done(task.id)) if is_last else rules.with_event(ghost.ledger, said)
            )
        for answer in await self._post(ghost.uid, ghost.ledger.term, ghost.ledger.outbox[:1]):
            ghost.ledger = rules.after_post(ghost.ledger, answer)
            if answer not in ("ok", "duplicate"):
                self.ghost = None

    # ---- the log ---------------------------------------------------------------------------------------------------
    async def _post(self, uid: str, term: int, entries: tuple[ledgers.Outgoing, ...]) -> list[wire.AppendResult]:
        """What the log answers, which must be what the model says."""
        if not entries:
            return []
        held = self.pod.ledger if uid == self.pod.uid else ledgers.Ledger()
        events = [Numbered(e.seq, from_wire(e.type, e.payload), e.generation, rules.acked_by(held, e)) for e in entries]
        events, is_cut = self._admitted(uid, events, await self._live())
        answers: list[wire.AppendResult] = []
        if events:
            answers = await self.log.append(LogKey(*REF, uid), term, events, floor=self._floor())
        if is_cut and all(answer in ("ok", "duplicate") for answer in answers):
            answers.append("fenced")
        for entry, answer in zip(entries, answers, strict=False):
            heard = words.count(self.messages, rules.acked_by(held, entry))
            post = Post(words.number(uid), term, *words.outgoing(self.names, entry, heard))
            assert answer == self._expected(post), (post, answer, self.known)
            if answer == "ok":
                self._accept(post)
        assert len(answers) == len(entries) or answers[-1] not in ("ok", "duplicate")
        return answers

    def _admitted(self, uid: str, events: list[Numbered], live: Live | None) -> Admitted:
        """The gateway's part: by its own copy, then by the newest."""
        copies = [Agent.model_validate(each) for each in (self.seen, self.manifest) if each["metadata"]["uid"] == uid]
        if not copies or all(is_known(each, copies[0]) for each in events):
            return Admitted(events, False)
        return admitted(events, copies[-1], live)

    def _expected(self, post: Post) -> str:
        if post.term and self.known.uid != post.uid:
            return "fenced"
        answer = referee.decide(self.known, post, exact=True, fence=True, owns=True)
        if not self.system.is_admitted(self._world(), self.known, post):
            return "fenced" if post.kind == "text" else "stale" if answer == "ok" else answer
        return answer

    def _accept(self, post: Post) -> None:
        self.known = referee.after(self.known, post, owns=True)
        cancel = self.manifest["spec"].get("cancelTaskID")
        if post.how == "cancelled" and post.uid == words.number(self.uid) and self.names.get(cancel) != post.task:
            self.wrong = f"(6) {post.task} was cancelled, and not named"
        if self.system.owner(post.task) != post.uid:
            self.wrong = f"(8) {post.kind} of {post.task} in the log of agent {post.uid}"

    async def _live(self) -> Live | None:
        live = await self.log.live(*REF)
        if live and words.number(live.uid) == self.known.uid:
            assert (live.task_id and self.names[live.task_id]) == self.known.live[0]
            assert live.task_id is None or live.has_ended == self.known.live[1]
        return live

    def _named(self, tasks: list[str]) -> set[str]:
        return {self.names[task] for task in tasks}

    def _status(self) -> AgentStatus:
        return Agent.model_validate(self.manifest).status

    def _ended_ever(self) -> set[str]:
        return {task for task, name in self.names.items() if name in self.known.ended}

    def _resource(self, manifest: Manifest) -> Resource:
        return words.resource(self.names, manifest, self.edits, self.counted)

    def _world(self) -> World:
        return World(
            resource=self._resource(self.manifest),
            seen=self._resource(self.seen),
            log=ModelLog(self.known),
            is_up=True,
            ledger=words.ledger(self.names, self.messages, self.pod.ledger),
            losses=frozenset(self.losses),
            recorded=tuple(self.recorded),
            claims=tuple(self.claims),
            prompts=tuple(self.prompts),
            wrong=self.wrong,
        )

    # ---- how it goes on --------------------------------------------------------------------------------------------
    def check(self) -> None:
        """After every step: the same task is wanted, and what the model promises holds."""
        agent = Agent.model_validate(self.manifest)
        want = wanted(agent.spec, agent.status)
        told = BUSY if isinstance(want, Unrecorded) else want and self.names[want.id]
        resource = self._resource(self.manifest)
        assert told == self.system.wanted(resource, resource.ended), (told, resource)
        assert (found := broken(self.system, self._world(), False)) is None, found

    async def progress(self, first: int) -> str:
        """The first of the steps that must happen in the end, from this one on in a circle, that changes anything: its
        name, or nothing."""
        for offset in range(len(PROGRESS)):
            step, before = PROGRESS[(first + offset) % len(PROGRESS)], self._visible()
            await step(self)
            if self._visible() != before:
                return step.__name__
        return ""

    async def come_to_rest(self) -> list[str]:
        """Progress alone, until nothing changes any more: the steps that it took."""
        taken: list[str] = []
        while step := await self.progress(0):
            taken.append(step)
            self.check()
            assert len(taken) < 500, ("does not come to rest", taken[-20:])
        return taken

    def _visible(self) -> str:
        """All that a step may change, but for when that was."""
        status = {key: value for key, value in self.manifest["status"].items() if key != "conditions"}
        return json.dumps([self.manifest["spec"], status, self.seen["metadata"], *map(repr, (self.pod, self.known))])

    def check_at_rest(self) -> None:
        assert (found := broken(self.system, self._world(), True)) is None, found


PROGRESS: Final[tuple[Step, ...]] = (
    Parts.the_runtime_introduces_itself,
    Parts.the_operator_works,
    Parts.the_gateway_sees,
    Parts.the_runtime_begins,
    Parts.the_runtime_posts,
    Parts.the_prompt_is_given,
    Parts.the_runtime_heeds_the_cancel,
    Parts.the_runtime_is_told,
    Parts.claude_answers,
    Parts.the_task_is_done,
    Parts.the_runtime_sends_a_heartbeat,
)
HAPPENINGS: Final[tuple[Step, ...]] = (
    *(Parts.a_post_reads, Parts.a_post_claims, Parts.the_manifest_is_edited, Parts.the_task_is_cancelled),
    *(Parts.somebody_speaks, Parts.somebody_speaks, Parts.the_agent_is_made_again, Parts.the_old_log_is_buried),
    *(Parts.an_operator_decides, Parts.an_operator_writes),
    *(Parts.a_gateway_stops_watching, Parts.the_stale_gateway_takes_over),
    *(Parts.the_runtime_says_hello, Parts.claude_says_something, Parts.a_post_gets_no_answer),
    *(Parts.the_pod_dies, Parts.the_pod_seems_dead_and_speaks_on, Parts.the_workspace_is_lost),
    *(Parts.the_log_reaches_the_disk, Parts.the_log_loses_what_is_not_on_disk),
    *(Parts.the_agent_forges_a_start, Parts.the_runtime_hangs),
    *(Parts.a_post_is_delayed, Parts.a_late_post_arrives, Parts.the_old_pod_speaks),
)
