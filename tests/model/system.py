"""What may happen next in a world, and the decisions that the parts share."""

from collections.abc import Collection, Iterable, Iterator

from tests.model import people, pods, referee
from tests.model.referee import after, decide, view
from tests.model.rules import RULES
from tests.model.state import BUSY, Claim, Log, Post, Resource, View, World

Step = tuple[str, bool, World]
"""What happens, whether it must happen in the end, and the world after it."""


class System:
    """The rules, and how much may happen: `posts`, `edits` (at most 2), `cancels`, `faults`, `recreations`,
    `messages`.

    With `hangs`, faults include runtimes that hang and gateways that are all away. `created` is who makes the agent: a
    manifest or a POST. With `lag` API and operator may act on old copies of the resource; without, each acts in one
    step, which changes nothing that a test could not tell.
    """

    def __init__(
        self,
        off: Collection[str] = (),
        *,
        posts: int = 1,
        edits: int = 0,
        cancels: int = 0,
        faults: int = 0,
        recreations: int = 0,
        messages: int = 0,
        created: str = "manifest",
        lag: bool = False,
        hangs: bool = False,
    ) -> None:
        self.rule = {rule: rule not in off for rule in RULES}
        self.edits, self.created, self.lag = edits, created, lag
        self.hangs = hangs
        self.posts, self.cancels, self.faults, self.recreations = posts, cancels, faults, recreations
        self.messages = messages

    def first(self) -> World:
        by_api, creates = self.created == "api", self.rule["create"]
        resource = Resource(task=Claim("t1.1", "A", None) if by_api and creates else None)
        claims = ("t1.1" if creates else "m1.1",) * by_api
        return World(
            resource=resource,
            seen=resource,
            claims=claims,
            posts=self.posts,
            cancels=self.cancels,
            faults=self.faults,
            recreations=self.recreations,
            messages=self.messages,
        )

    # ---- decisions -------------------------------------------------------------------------------------------------
    @staticmethod
    def owner(task: str) -> int:
        """The uid of the agent whose task it is: ids are `<t or m><uid>.<count>`."""
        return int(task[1 : task.index(".")])

    def accounted(self, resource: Resource) -> tuple[str, ...]:
        return resource.ended if self.rule["memory"] else resource.ended[-1:]

    def wanted(self, resource: Resource, over: Collection[str]) -> str | None:
        """The task that is to run, `BUSY`, or None; `over` are the tasks that have ended."""
        task, recorded = resource.task, resource.recorded
        if task and self.rule["sticky"] and task.id not in over:
            return task.id
        if task and not self.rule["sticky"] and task.digest == resource.digest:
            return None if task.id in over else task.id
        if not recorded or recorded.digest != resource.digest:
            return BUSY
        if task and self.rule["sticky"] and recorded.id in (task.id, task.manifest_task):
            return None
        return None if recorded.id in over else recorded.id

    def is_idle(self, resource: Resource, world: World) -> bool:
        now = view(world.log, self.rule["uid"])
        task, has_ended = now.live if now.uid in (0, resource.uid) else (None, True)
        over = self.accounted(resource)
        if self.rule["open"] and not has_ended and task not in over:
            return False
        return self.wanted(resource, (*over, task) if task and has_ended else over) is None

    def is_admitted(self, world: World, now: View, post: Post) -> bool:
        """What the gateway lets pass to the log: events of the wanted task, and, but for starts, of the one that the
        log shows open; ends, which open nothing, of any. A start of the open task passes too: it changes nothing. An
        old copy of the resource is no reason to refuse: it is read anew before that."""
        if not post.term or post.kind in ("end", "hello") or not self.rule["wanted"]:
            return True
        return now.live == (post.task, False) or post.task in self.wanted_now(world, post.uid)

    def wanted_now(self, world: World, uid: int) -> set[str | None]:
        """The tasks of this agent that a gateway may take for the wanted one."""
        copies = [copy for copy in (world.seen, world.resource) if copy.uid == uid]
        return {self.wanted(copy, self.accounted(copy)) for copy in copies}

    # ---- the log ---------------------------------------------------------------------------------------------------
    def view(self, world: World) -> View:
        return view(world.log, self.rule["uid"])

    def append(self, world: World, post: Post) -> tuple[World, str]:
        """The world after the log has decided, and its answer."""
        owns = self.rule["uid"]
        now = view(world.log, owns)
        answer = decide(
            now, post, exact=self.rule["exact"], fence=self.rule["fence"], owns=owns, hears=self.rule["heard"]
        )
        if not self.is_admitted(world, now, post):
            if post.kind == "text":  # the gateway answers by itself
                answer = "fenced"
            elif answer == "ok":
                answer = "stale"
        if answer != "ok":
            return world, answer
        ends = (post.task,) if post.kind == "end" else ()
        wrong = world.wrong
        if post.how == "cancelled" and post.task != world.resource.cancel and post.uid == world.resource.uid:
            wrong = f"(6) {post.task} was cancelled, and not named"
        if self.owner(post.task) != (post.uid if owns else now.uid) and now.uid:
            wrong = f"(8) {post.kind} of {post.task} in the log of agent {now.uid}"
        if referee.unanswered(now, post):
            wrong = f"(9) {post.task} is completed before a message to it was answered"
        readable = world.pending if not owns or now.uid == post.uid else ()
        log = world.log._replace(tail=(*world.log.tail, post))
        return world._replace(log=log, pending=readable + ends, ever=world.ever.union(ends), wrong=wrong), "ok"

    # ---- steps -----------------------------------------------------------------------------------------------------
    def steps(self, world: World) -> Iterator[Step]:
        parts = (people.users, people.operator, pods.runtime, pods.faults)
        for label, must, then in (step for part in parts for step in part(self, world)):
            yield label, must, self.canonical(then)

    def canonical(self, world: World) -> World:
        """The same world without what can never matter again: old parts of the log, and terms by rank."""
        owns, keep = self.rule["uid"], 3 * world.faults
        cut = len(world.log.tail) - keep if keep else len(world.log.tail)
        base, tail = world.log.base, world.log.tail[max(0, cut) :]
        for post in world.log.tail[: max(0, cut)]:
            base = after(base, post, owns)
        ghost = world.ghost
        if ghost and not (ghost.out or ghost.phase in (1, 3)):
            ghost = None
        used = {world.ledger.term, *(p.term for p in tail), *(p.term for p in world.underway)}
        used |= {ghost.term} if ghost else set()
        last = [(term, n) for term, n in base.last if term in used]
        rank = _ranks({0, base.term, *used})
        base = base._replace(term=rank[base.term], last=frozenset((rank[term], n) for term, n in last))
        return world._replace(
            log=Log(base, tuple(post._replace(term=rank[post.term]) for post in tail)),
            ledger=world.ledger._replace(term=rank[world.ledger.term]),
            ghost=ghost and ghost._replace(term=rank[ghost.term]),
            underway=frozenset(post._replace(term=rank[post.term]) for post in world.underway),
            terms=len(rank) - 1,
        )


def _ranks(terms: Iterable[int]) -> dict[int, int]:
    return {term: i for i, term in enumerate(sorted(terms))}
