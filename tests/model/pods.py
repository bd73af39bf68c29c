"""The runtime in its pod, and what goes wrong around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.model.state import BUSY, Ghost, How, Kind, Ledger, Outgoing, Owed, Post, View, World

if TYPE_CHECKING:
    from tests.model.system import Step, System


def runtime(system: System, world: World) -> Iterator[Step]:
    resource = world.resource
    if world.seen != resource._replace(counted=()):
        seen = world._replace(seen=resource._replace(counted=()))
        yield "the gateway sees the newest resource", True, assigned(system, seen)
    if not world.has_gateway:
        yield "a gateway is there again", True, world._replace(has_gateway=True)
        return
    if world.is_hung:
        yield "the runtime wakes up", False, world._replace(is_hung=False)
        return
    if not world.is_up:
        if resource.uid not in system.view(world).dead:
            yield "a pod starts, its runtime says hello", True, hello(system, world)
        return
    yield from _work(system, world)
    yield from heartbeat(system, world)


def _work(system: System, world: World) -> Iterator[Step]:
    ledger, seen = world.ledger, world.seen
    is_current = _is_current(world)
    want = system.wanted(seen, system.accounted(seen))
    may_begin = is_current and not ledger.task and not ledger.out
    if ledger.refused[0] == want and seen.generation <= ledger.refused[1]:
        may_begin = False
    if may_begin and want and want != BUSY and want not in ledger.closed:
        start = Outgoing(ledger.n + 1, "start", want, generation=seen.generation)
        taken = ledger._replace(task=want, phase=0, n=start.n, out=(start,), told=0, heard=0)
        yield f"the runtime writes {want} into its ledger", True, world._replace(ledger=taken)
    task, said = ledger.task, system.view(world).said
    if task and said[0] == task and said[1] > ledger.told:
        yield (
            f"the runtime is told what was said to {task}",
            True,
            world._replace(ledger=ledger._replace(told=said[1], waits=False)),
        )
    if ledger.waits and not (said[0] == task and said[1] > ledger.heard):
        yield "the runtime has waited long enough", True, world._replace(ledger=ledger._replace(waits=False))
    waits = system.rule["wait_start"] and any(event.kind == "start" for event in ledger.out)
    if task and ledger.phase == 0 and not waits:
        yield (
            f"the prompt of {task} is given to Claude",
            True,
            _prompted(world, task)._replace(ledger=ledger._replace(phase=1)),
        )
    if task and ledger.phase < 2:
        if ledger.phase == 1 and ledger.heard < ledger.told:
            yield "the model answers", True, world._replace(ledger=ledger._replace(heard=ledger.told))
        if ledger.phase == 1 and ledger.heard == ledger.told and not ledger.waits:
            yield f"the runtime writes the end of {task}: done", True, _ended(world, task, "done")
        if is_current and seen.cancel == task:
            yield f"the runtime writes the end of {task}: cancelled", True, _ended(world, task, "cancelled")
    if ledger.out:
        yield from _deliver(system, world, ledger.out[0])


def _prompted(world: World, task: str) -> World:
    newer = any(other[0] == "m" and task[0] == "m" and other > task for other in world.prompts)
    wrong = f"(7) {task} of an old manifest runs after a newer one" if newer else world.wrong
    return world._replace(prompts=tuple(sorted((*world.prompts, task))), wrong=wrong)


def _ended(world: World, task: str, how: How) -> World:
    ledger = world.ledger
    end = Outgoing(ledger.n + 1, "end", task, how, heard=ledger.heard if how == "done" else None)
    return world._replace(ledger=ledger._replace(phase=2, n=end.n, out=(*ledger.out, end)))


def _deliver(system: System, world: World, event: Outgoing) -> Iterator[Step]:
    ledger = world.ledger
    after, answer = system.append(world, Post(world.resource.uid, ledger.term, *event))
    label = f"the runtime posts {event.kind} of {event.task} as #{event.n}: {answer}"
    if answer in ("fenced", "gap", "ended"):
        yield f"{label}; hello again", True, hello(system, world)
        return
    if answer in ("ok", "duplicate"):
        ledger = ledger._replace(out=ledger.out[1:])
        if event.kind == "end":
            owed = Owed(event.task, event.how or "done")
            ledger = ledger._replace(owed=(*ledger.owed, owed), closed=ledger.closed | {event.task})
    elif answer == "started":  # by a ledger that is gone
        ledger = ledger._replace(phase=2, n=event.n, out=(Outgoing(event.n, "end", event.task, "workspace_lost"),))
    elif answer == "unacknowledged":  # the task goes on
        ledger = ledger._replace(phase=1, out=ledger.out[1:], n=event.n - 1, waits=True)
    elif event.generation is None:  # stale and begun: the log forgot its start, and another task is wanted by now
        end = Outgoing(event.n, "end", event.task, "elsewhere")
        closed = ledger.closed | {event.task}
        ledger = ledger._replace(task=None, phase=0, n=end.n, out=(end,), closed=closed, told=0, heard=0, waits=False)
        yield f"{label}; hello again", True, hello(system, after._replace(ledger=ledger))
        return
    else:  # stale: not begun, so dropped; a newer assignment may name it again
        refused = (event.task, event.generation)
        ledger = ledger._replace(task=None, phase=0, out=(), n=event.n - 1, refused=refused)
        yield f"{label}; hello again", True, hello(system, after._replace(ledger=ledger))
        return
    if ledger.task in ledger.closed:
        ledger = ledger._replace(task=None, phase=0, told=0, heard=0, waits=False)
    yield label, True, assigned(system, after._replace(ledger=ledger))


def heartbeat(system: System, world: World) -> Iterator[Step]:
    ledger, now, accounted = world.ledger, system.view(world), _accounted(system, world)
    if world.resource.uid in now.dead:
        return
    taken = ledger.out[0].n - 1 if ledger.out else ledger.n
    lacks = now.uid != world.resource.uid or now.term != ledger.term
    lacks = lacks or dict(now.last).get(ledger.term, 0) < taken
    if lacks or any(owed.task not in now.ended and owed.task not in accounted for owed in ledger.owed):
        yield "a heartbeat shows that the log lacks what it took; hello again", True, hello(system, world)


def _is_current(world: World) -> bool:
    """An assignment of another uid, or older than one that the ledger has seen, is ignored."""
    return world.seen.uid == world.resource.uid and world.seen.generation >= world.ledger.generation


def _accounted(system: System, world: World) -> tuple[str, ...]:
    return system.accounted(world.seen) if world.seen.uid == world.resource.uid else ()


def assigned(system: System, world: World) -> World:
    """The runtime has got the gateway's assignment."""
    if not world.is_up or not _is_current(world):
        return world
    over = _accounted(system, world)
    owed = tuple(owed for owed in world.ledger.owed if owed.task not in over)
    if world.seen.generation > world.ledger.refused[1]:
        world = world._replace(ledger=world.ledger._replace(refused=("", 0)))
    return world._replace(ledger=world.ledger._replace(generation=world.seen.generation, owed=owed))


def hello(system: System, world: World) -> World:
    """A runtime introduces itself; its ledger and the log come to one opinion."""
    uid, ledger = world.resource.uid, world.ledger
    now = system.view(world)
    if uid in now.dead:
        return world
    greeted, now, term = _greet(system, world, uid)
    taken, accounted = dict(now.last).get(ledger.term, 0), _accounted(system, world)
    accepted = (event for event in ledger.out if event.n <= taken and event.kind == "end")
    owed = ledger.owed + tuple(Owed(event.task, event.how or "done") for event in accepted)
    closed = ledger.closed | {each.task for each in owed}
    out = [event for event in ledger.out if event.n > taken]  # the others were taken, though no answer came
    for over in sorted(({event.task for event in out} | {ledger.task or ""}) & now.ended):  # somebody else ended it
        out, closed = [event for event in out if event.task != over], closed | {over}
        if system.rule["owe"] and all(each.task != over for each in owed):
            owed += (Owed(over, "elsewhere"),)
    task = ledger.task if ledger.task not in closed else None
    if task and task not in now.started and all((event.kind, event.task) != ("start", task) for event in out):
        out.insert(0, Outgoing(0, "start", task))  # taken once, and forgotten: no generation to check again
    missing = tuple(each for each in owed if each.task not in now.ended and each.task not in accounted)
    out = [Outgoing(0, "end", each.task, each.how) for each in missing] + out
    if system.rule["adopt"]:
        known = closed.union({task}, accounted, (event.task for event in out))
        strays = sorted(now.started - now.ended - known)
        out += [Outgoing(0, "end", stray, "workspace_lost") for stray in strays]
    fresh = ledger._replace(
        term=term,
        n=len(out),
        out=_renumbered(out),
        closed=closed,
        owed=tuple(each for each in owed if each not in missing),
        task=task,
        phase=ledger.phase if task else 0,
        told=ledger.told if task else 0,
        heard=ledger.heard if task else 0,
        waits=ledger.waits and task is not None,
    )
    return assigned(system, greeted._replace(is_up=True, ledger=fresh))


def _greet(system: System, world: World, uid: int) -> tuple[World, View, int]:
    """The log's side of a hello: a new term for this uid."""
    before = system.view(world)
    term = max(world.terms, before.term) + 1
    taken_over = system.rule["uid"] and before.uid != uid
    log = world.log._replace(tail=(*world.log.tail, Post(uid, term, 0, "hello")))
    after = world._replace(log=log, terms=term, pending=() if taken_over else world.pending)
    return after, before if not taken_over else system.view(after), term


def _renumbered(events: list[Outgoing]) -> tuple[Outgoing, ...]:
    return tuple(event._replace(n=i) for i, event in enumerate(events, 1))


def unheard(world: World) -> Ghost:
    """A pod whose runtime has not said a word yet."""
    return Ghost(world.resource.uid, 0, 0, None, 2, ())


def ghost_of(world: World) -> Ghost:
    ledger = world.ledger
    return Ghost(world.resource.uid, ledger.term, ledger.n, ledger.task, ledger.phase, ledger.out)


def faults(system: System, world: World) -> Iterator[Step]:
    for post in world.underway:
        after, answer = system.append(world, post)
        if answer == "ok":
            label = f"the delayed {post.kind} of {post.task} #{post.n} (term {post.term}) arrives"
            yield label, False, after._replace(underway=world.underway - {post})
    if world.ghost:
        yield from _haunt(system, world, world.ghost)
    yield from _forged(system, world)
    if world.stale:
        yield "the gateway restarts with an old copy", False, world._replace(seen=world.stale, stale=None)
    if world.faults:
        yield from _new_faults(system, world, world._replace(faults=world.faults - 1))


def _haunt(system: System, world: World, ghost: Ghost) -> Iterator[Step]:
    """Its Claude had the prompt: what it still had to send, one more text, an end."""
    uid, term, n, task, phase, out = ghost
    options: list[tuple[Outgoing, Ghost | None]] = []
    if out:
        options.append((out[0], ghost._replace(out=out[1:])))
    elif task and phase == 1:
        options.append((Outgoing(n + 1, "text", task), Ghost(uid, term, n + 1, task, 3, ())))
    if task and phase in (1, 3) and not out:
        options.append((Outgoing(n + 1, "end", task, "done", heard=0), None))
    for event, rest in options:
        after, answer = system.append(world, Post(uid, term, *event))
        label = f"the old pod posts {event.kind} of {event.task} as #{event.n} (term {term}): {answer}"
        yield label, False, after._replace(ghost=rest if answer in ("ok", "duplicate") else None)


def _forged(system: System, world: World) -> Iterator[Step]:
    """An agent, which can do all that its runtime can, speaks of a task that nobody gave to it, or that is not wanted
    any more, or not yet: what spec and status name besides the wanted one."""
    uid, term, resource = world.resource.uid, world.ledger.term, world.resource
    now = system.view(world)
    if not world.is_up or not term or now.uid != uid:
        return
    number = dict(now.last).get(term, 0) + 1
    named = {f"f{uid}.1", *resource.ended, *now.started}
    named |= {resource.recorded.id} if resource.recorded else set()
    named |= {resource.task.id, resource.task.manifest_task or resource.task.id} if resource.task else set()
    kinds: tuple[Kind, ...] = ("start", "text")
    for task in sorted(named - {now.live[0] if not now.live[1] else None} - system.wanted_now(world, uid)):
        for kind in kinds:
            for generation in (resource.generation, None) if kind == "start" else (None,):
                after, answer = system.append(world, Post(uid, term, number, kind, task, generation=generation))
                if answer == "ok":
                    wrong = "(10) a task is open that is not wanted"
                    yield f"the agent forges a {kind} of {task}", False, after._replace(wrong=wrong)


def _new_faults(system: System, world: World, then: World) -> Iterator[Step]:
    ledger = world.ledger
    if world.is_up:
        ghosts = [("", world.ghost)]
        if ledger.task and not world.ghost:
            ghosts.append((", the old one lives on", ghost_of(world)))
        for suffix, ghost in ghosts:
            dead = then._replace(is_up=False, is_hung=False, ghost=ghost)
            # So does a pod that the operator replaces since the gateway has moved.
            yield f"FAULT the pod dies{suffix}", False, dead
            lost = dead._replace(ledger=Ledger(), losses=then.losses | {"workspace"})
            yield f"FAULT the pod and its workspace are lost{suffix}", False, lost
        if ledger.out:
            post = Post(world.resource.uid, ledger.term, *ledger.out[0])
            label = f"FAULT the post of {post.kind} of {post.task} #{post.n} is delayed or doubled"
            yield label, False, then._replace(underway=world.underway | {post})
    if system.hangs and world.is_up and not world.is_hung:
        yield "FAULT the runtime hangs", False, then._replace(is_hung=True)
    if system.hangs and world.has_gateway:
        yield "FAULT no gateway is there", False, then._replace(has_gateway=False)
    if not world.stale:
        yield "FAULT a gateway replica stops watching", False, then._replace(stale=world.resource._replace(counted=()))
    for count in (1, 2, 3):
        kept, cut = world.log.tail[:-count], world.log.tail[-count:]
        if len(cut) == count:
            lost_ends = {post.task for post in cut if post.kind == "end"}
            yield (
                f"FAULT the log loses its last {count}",
                False,
                then._replace(
                    log=world.log._replace(tail=kept),
                    pending=tuple(task for task in world.pending if task not in lost_ends),
                    losses=then.losses | {"log"},
                ),
            )
