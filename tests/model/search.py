"""Every world within bounds, breadth first; or random runs, each led to rest at its end."""

import random
import time
from collections import Counter, deque
from typing import NamedTuple

from tests.model.invariants import broken
from tests.model.state import World
from tests.model.system import System


class Found(NamedTuple):
    """`violation` with the shortest `trace` to it. `comes_to_rest`: no progress step leads back to where it began."""

    worlds: int
    is_complete: bool
    violation: str | None = None
    trace: tuple[str, ...] = ()
    comes_to_rest: bool = True


def explore(system: System, *, most: int = 2_500_000, seconds: float = 300.0) -> Found:
    """All worlds, at most `most` of them and for so long."""
    deadline = time.monotonic() + seconds
    first = system.first()
    numbers, came, queue = {first: 0}, [(-1, "")], deque([first])
    progress: list[tuple[int, ...]] = []
    while queue:
        if len(came) > most or time.monotonic() > deadline:
            return Found(len(came), False)
        world = queue.popleft()
        me, targets = numbers[world], []
        nexts = list(system.steps(world))
        violation = broken(system, world, not any(must and after != world for _, must, after in nexts))
        if violation:
            return Found(len(came), False, violation, _trace(came, me))
        for label, must, after in nexts:
            if after not in numbers:
                numbers[after] = len(came)
                came.append((me, label))
                queue.append(after)
            if must and after != world:
                targets.append(numbers[after])
        progress.append(tuple(targets))
    return Found(len(came), True, comes_to_rest=_is_acyclic(progress))


def _trace(came: list[tuple[int, str]], at: int) -> tuple[str, ...]:
    labels: list[str] = []
    while at > 0:
        at, label = came[at]
        labels.append(label)
    return tuple(reversed(labels))


def _is_acyclic(edges: list[tuple[int, ...]]) -> bool:
    """Then every run of progress steps comes to rest, and worlds at rest are where what must happen has happened."""
    waiting = Counter(target for targets in edges for target in targets)
    ready, seen = [i for i in range(len(edges)) if not waiting[i]], 0
    while ready:
        seen += 1
        for target in edges[ready.pop()]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return seen == len(edges)


def walk(system: System, *, seconds: float, seed: int = 1) -> Found:
    """Random runs of up to 120 steps, then progress steps only."""
    rng, deadline = random.Random(seed), time.monotonic() + seconds
    steps = 0
    while time.monotonic() < deadline:
        world, trace, busy = system.first(), list[str](), rng.randint(5, 120)
        while True:
            nexts = list(system.steps(world))
            violation = broken(system, world, not any(must and after != world for _, must, after in nexts))
            if not violation and len(trace) > 1000:
                violation = "does not come to rest"
            if violation:
                return Found(steps, False, violation, tuple(trace))
            choices = [step for step in nexts if step[2] != world and (step[1] or len(trace) < busy)]
            if not choices:
                break
            label, _, world = _chosen(rng, choices)
            trace.append(label)
        steps += len(trace)
    return Found(steps, True)


def _chosen(rng: random.Random, choices: list[tuple[str, bool, World]]) -> tuple[str, bool, World]:
    return rng.choices(choices, [3 if must else 1 for _, must, _ in choices])[0]
