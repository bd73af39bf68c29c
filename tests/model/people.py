"""Those who write the resource: users through the API and by manifest, and the operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.model.pods import ghost_of, unheard
from tests.model.state import BUSY, SILENT_PODS, TEXTS, Claim, Ledger, Post, Recorded, Resource, World, Write

if TYPE_CHECKING:
    from tests.model.system import Step, System


def users(system: System, world: World) -> Iterator[Step]:
    resource = world.resource
    over = world.ever | set(resource.ended)
    if resource.edits < system.edits:
        edited = resource._replace(edits=resource.edits + 1, generation=resource.generation + 1)
        yield f"the manifest is edited to {edited.digest}", False, world._replace(resource=edited)
    now = system.view(world)
    task, has_ended = now.live if now.uid == resource.uid or not system.rule["uid"] else (None, True)
    named = task if task and not has_ended and task not in over else system.wanted(resource, over)
    previous_counts = resource.cancel is None or resource.cancel in system.accounted(resource)
    if world.cancels and previous_counts and named and named != BUSY:
        cancelling = resource._replace(cancel=named, generation=resource.generation + 1)
        yield f"{named} is cancelled by name", False, world._replace(resource=cancelling, cancels=world.cancels - 1)
    if world.posts and system.lag:
        read = resource._replace(generation=0, cancel=None, counted=())
        if len(world.reads) < 2 and read not in world.reads and system.wanted(resource, over) is None:
            yield (
                "a POST reads the resource",
                False,
                world._replace(reads=tuple(sorted((*world.reads, read), key=repr))),
            )
        for held in world.reads:
            yield from _claim(system, world, held, world._replace(reads=tuple(r for r in world.reads if r is not held)))
    elif world.posts:
        yield from _claim(system, world, resource, world)
    if world.messages and task and not has_ended:
        after, answer = system.append(world, Post(resource.uid, 0, 0, "message", task))
        if answer == "ok":
            yield f"somebody speaks to {task}", False, after._replace(messages=world.messages - 1)
    if world.recreations:
        yield from _recreate(world)


def _claim(system: System, world: World, read: Resource, then: World) -> Iterator[Step]:
    """POST: idle in what it read, and a patch that tests uid, task, instructions and the manifest's task.

    The code tests the generation in place of task and instructions. That is stricter: it grows with each change of
    either. The weaker test keeps reads of different generations one state.
    """
    resource, over = world.resource, world.ever | set(world.resource.ended)
    passes = (read.uid, read.task, read.digest) == (resource.uid, resource.task, resource.digest)
    passes = passes and (not system.rule["test_mt"] or read.recorded == resource.recorded)
    if not passes or not system.is_idle(read, world):
        return
    recorded = resource.recorded
    mine = recorded.id if recorded and recorded.digest == resource.digest else None
    runs = world.ledger.task if world.ledger.task in system.view(world).started else None
    unfinished = [x for x in (resource.task and resource.task.id, mine, runs) if x and x not in over]
    claim = Claim(f"t{resource.uid}.{len(world.claims) + 1}", resource.digest, read.recorded and read.recorded.id)
    yield (
        f"POST {claim.id} is answered 2xx",
        False,
        then._replace(
            resource=resource._replace(task=claim, generation=resource.generation + 1),
            posts=world.posts - 1,
            claims=(*world.claims, claim.id),
            wrong=f"(5) 2xx for {claim.id} while {unfinished[0]} is wanted or runs" if unfinished else world.wrong,
        ),
    )


def _recreate(world: World) -> Iterator[Step]:
    """Deleted and made again by a manifest: its children are new; the old pod may be slow to die."""
    fresh = Resource(uid=world.resource.uid + 1)
    base = world._replace(
        resource=fresh,
        recreations=world.recreations - 1,
        is_up=False,
        is_hung=False,
        silent_pods=0,
        ledger=Ledger(),
        reads=(),
        recorded=(),
        claims=(),
        prompts=(),
        losses=world.losses - {"workspace"},
    )
    yield "the agent is deleted and made again", False, base
    if not world.ghost:
        old = ghost_of(world) if world.is_up else unheard(world)
        yield "the agent is deleted and made again, its old pod lives on", False, base._replace(ghost=old)


def operator(system: System, world: World) -> Iterator[Step]:
    for decided in _writes(system, world):
        yield from _apply(system, world, decided)
        if system.lag and not world.write:
            yield f"a slow operator replica decides to {decided.kind}", False, world._replace(write=decided)
    if world.write:
        yield from _apply(system, world._replace(write=None), world.write)
    yield from _end_cancelled(system, world)
    yield from _silent(system, world)


def _writes(system: System, world: World) -> Iterator[Write]:
    resource = world.resource
    if not resource.recorded or resource.recorded.digest != resource.digest:
        task = resource.task
        same = system.rule["create"] and not resource.recorded and task and task.digest == resource.digest
        record = Recorded(resource.digest, task.id) if same and task else None
        yield Write(resource.uid, "record", resource.recorded, edits=resource.edits, recorded=record)
    if world.pending and system.view(world).uid in (0, resource.uid):
        new = tuple(dict.fromkeys(task for task in world.pending if task not in system.accounted(resource)))
        yield Write(resource.uid, "account", resource.ended, ended=resource.ended + new, counted=resource.counted + new)


def _apply(system: System, world: World, write: Write) -> Iterator[Step]:
    resource, guards = world.resource, system.rule["guard"]
    if write.uid != resource.uid:  # a patch names the uid
        return
    if write.kind == "account" and (write.expects == resource.ended or not guards):
        left = tuple(task for task in world.pending if task not in write.ended)
        accounted = resource._replace(ended=write.ended, counted=write.counted)
        yield f"the operator accounts {write.ended}", True, world._replace(resource=accounted, pending=left)
    unchanged = write.expects == resource.recorded and TEXTS[write.edits] == resource.digest
    if write.kind == "record" and (unchanged or not guards):
        made = f"m{resource.uid}.{write.edits + 1}" + "'" * world.recorded.count(str(write.edits))
        recorded = write.recorded or Recorded(TEXTS[write.edits], made)
        ghosts = world.recorded if write.recorded else (*world.recorded, str(write.edits))
        after = world._replace(resource=resource._replace(recorded=recorded), recorded=ghosts)
        yield f"the operator records the manifest's task: {recorded.id}", True, after


def _end_cancelled(system: System, world: World) -> Iterator[Step]:
    """Level-triggered on cancelTaskID; it must happen only where no runtime holds the task."""
    resource, task = world.resource, world.resource.cancel
    if not task or task in resource.ended or task in system.view(world).ended:
        return
    ledger = world.ledger
    held = {ledger.task, *(event.task for event in ledger.out), *(owed.task for owed in ledger.owed)}
    end = Post(resource.uid, 0, 0, "end", task, "cancelled", resource.generation)
    after, answer = system.append(world, end)
    if answer == "ok":
        yield f"the operator ends {task}: cancelled", not (world.is_up and task in held), after


def _silent(system: System, world: World) -> Iterator[Step]:
    """A silent runtime loses its pod; after as many as `SILENT_PODS` in a row the task is ended before that."""
    is_silent = world.is_up and (world.is_hung or not world.has_gateway)
    if not is_silent or not system.rule["silence"] or (system.rule["alive"] and not world.has_gateway):
        return
    now, resource = system.view(world), world.resource
    is_last = world.silent_pods + 1 >= SILENT_PODS
    over = system.accounted(resource)
    waiting = {system.wanted(resource, over)} - {None, BUSY} | ({now.live[0]} if not now.live[1] else set())
    left = sorted(task for task in waiting if task and task not in now.ended and task not in over)
    if is_last and left:
        end = Post(resource.uid, 0, 0, "end", left[0], "runtime_lost", resource.generation)
        after, answer = system.append(world, end)
        if answer == "ok":
            yield f"the operator ends {left[0]}: runtime_lost", True, after
        return
    wrong = world.wrong if world.is_hung else "(11) a pod whose runtime works is deleted for its silence"
    deleted = world._replace(
        is_up=False, is_hung=False, silent_pods=0 if is_last else world.silent_pods + 1, wrong=wrong
    )
    yield "the operator deletes the pod of a silent runtime", True, deleted
    if not world.ghost and world.ledger.task:
        yield "the operator deletes a silent pod, which lives on", False, deleted._replace(ghost=ghost_of(world))
