"""What a world is: values only. Two worlds that can only go on in the same ways are one, see `System.canonical`."""

from typing import Final, Literal, NamedTuple

TEXTS: Final = "ABA"
"""The manifest's instructions (and their digest) after 0, 1, 2 edits."""

BUSY: Final = "busy"
"""Instead of a wanted task: the manifest's is not recorded yet."""

Kind = Literal["start", "text", "end", "hello", "message"]
How = Literal["done", "cancelled", "workspace_lost", "runtime_lost", "elsewhere"]
"""Of an end. `elsewhere`: owed by a runtime for a task that somebody else ended, or that another has superseded."""
SILENT_PODS: Final = 2
"""Silent pods in a row after which the operator ends the task. The real limit is larger; the model needs one repeat."""


class Claim(NamedTuple):
    """`spec.task`: its id, the digest it covers, and the manifest task that the API had seen."""

    id: str
    digest: str
    manifest_task: str | None


class Recorded(NamedTuple):
    """`status.manifestTask`."""

    digest: str
    id: str


class Resource(NamedTuple):
    """The custom resource: spec, then status."""

    uid: int = 1
    generation: int = 1
    edits: int = 0
    task: Claim | None = None
    cancel: str | None = None
    recorded: Recorded | None = None
    ended: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()
    """One entry for each time that a task's cost was added."""

    @property
    def digest(self) -> str:
        return TEXTS[self.edits]


class Outgoing(NamedTuple):
    """An event that its runtime has numbered. `generation` is a start's, None for one that is repeated."""

    n: int
    kind: Kind
    task: str
    how: How | None = None
    generation: int | None = None
    heard: int | None = None
    """Of the end `done`: how many messages to the task the model has answered."""


class Owed(NamedTuple):
    task: str
    how: How


class Ledger(NamedTuple):
    """What a runtime finds on its workspace."""

    term: int = 0
    n: int = 0
    generation: int = 0
    """The newest that it was assigned."""
    task: str | None = None
    phase: Literal[0, 1, 2] = 0
    """Of the open task: written down; its prompt is in the transcript; its end is written."""
    out: tuple[Outgoing, ...] = ()
    """Not accepted yet."""
    owed: tuple[Owed, ...] = ()
    """Accepted ends that the status does not account yet."""
    closed: frozenset[str] = frozenset()
    told: int = 0
    """Messages to the open task that the runtime has got, and of them those that the model has answered."""
    heard: int = 0
    refused: tuple[str, int] = ("", 0)
    """The task whose start was stale, and under which generation: it may begin only under a newer one."""
    waits: bool = False
    """For a message for which the log has refused its end."""


class Ghost(NamedTuple):
    """A pod that was thought dead and still speaks, with the ledger that it had."""

    uid: int
    term: int
    n: int
    task: str | None
    phase: Literal[0, 1, 2, 3]
    """3: it has sent one more text."""
    out: tuple[Outgoing, ...]


class Post(NamedTuple):
    """What reaches the log. Term 0 is the operator's, which carries no number."""

    uid: int
    term: int
    n: int
    kind: Kind
    task: str = ""
    how: How | None = None
    generation: int | None = None
    heard: int | None = None


class View(NamedTuple):
    """What the log knows; what its script decides from."""

    uid: int = 0
    dead: frozenset[int] = frozenset()
    term: int = 0
    last: frozenset[tuple[int, int]] = frozenset()
    """(term, last number taken)."""
    started: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()
    live: tuple[str | None, bool] = (None, True)
    """The live hash: the task, and has it ended."""
    generation: int = 0
    said: tuple[str, int] = ("", 0)
    """How many messages the open task was sent."""


class Log(NamedTuple):
    base: View = View()
    """What can no longer be lost."""
    tail: tuple[Post, ...] = ()


class Write(NamedTuple):
    """A status write that the operator has decided. `expects` is what it was computed from."""

    uid: int
    kind: Literal["record", "account"]
    expects: object
    edits: int = 0
    recorded: Recorded | None = None
    """The task id that the manifest's task is to have, if it is not a fresh one."""
    ended: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()


class World(NamedTuple):
    resource: Resource
    seen: Resource
    """The gateway's copy: what the runtime is assigned."""
    stale: Resource | None = None
    """The copy of a gateway replica that no longer watches."""
    log: Log = Log()
    pending: tuple[str, ...] = ()
    """Ends above the operator's cursor."""
    is_up: bool = False
    """A pod with the agent's present uid runs."""
    is_hung: bool = False
    """Its runtime does nothing."""
    silent_pods: int = 0
    """Pods in a row that were deleted because of their silence."""
    has_gateway: bool = True
    ledger: Ledger = Ledger()
    ghost: Ghost | None = None
    underway: frozenset[Post] = frozenset()
    """Posts that are delayed or doubled."""
    reads: tuple[Resource, ...] = ()
    """Old copies held by POSTs under way."""
    write: Write | None = None
    """A slow operator replica's."""
    posts: int = 0
    """What users and faults may still do."""
    cancels: int = 0
    faults: int = 0
    recreations: int = 0
    messages: int = 0
    losses: frozenset[str] = frozenset()
    terms: int = 0
    """The clock of the log."""
    recorded: tuple[str, ...] = ()
    """From here on, what no part knows: manifest tasks by the edit that made them, ids answered 2xx, prompts given
    from the start, tasks that ever ended, the first thing that went wrong."""
    claims: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    ever: frozenset[str] = frozenset()
    wrong: str | None = None
