"""A cache of one kind of object, kept current by listing and watching: Kubernetes' informer."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import structlog

from komputer.domain.errors import Invalid, KomputerError, NotFound
from komputer.domain.ref import ObjectRef
from komputer.kube.cluster import Cluster
from komputer.kube.errors import ResourceExpired
from komputer.kube.kinds import Kind, Manifest
from komputer.kube.lookups import Lookups
from komputer.kube.selector import selects
from komputer.kube.store import CacheChange, ObjectStore, is_terminating

log = structlog.get_logger(__name__)

WATCH_S: Final = 120
"""How long one watch lasts, give or take a tenth so that watches do not end together. A server that hangs, connections
open, is noticed after that; client-go takes 5 to 10 minutes."""
SHORTEST_WATCH_S: Final = 1.0
"""A watch that ends sooner counts as a failure, so that a server that ends each at once is not asked without pause."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
"""Between attempts after failures, doubling, half to one and a half times as long. A guess, unmeasured."""
FAILURES_UNTIL_LIST: Final = 5
"""Watches that failed one after another before everything is listed anew, in case the server has lost history."""


def without_managed_fields(manifest: Manifest) -> Manifest:
    """`manifest` without the record of who set which field, often half of an object and of no use to us."""
    metadata = manifest["metadata"]
    if "managedFields" not in metadata:
        return manifest
    return manifest | {"metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}


class Cache:
    """The objects of `kind` as the server last told, in all namespaces (None) or in `namespaces`, matching the
    equality-based selector `labels`. What it gives out is its own: read it, never change it.

    `strip` is applied to each manifest before it is kept (default: `without_managed_fields`)."""

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind,
        *,
        namespaces: Sequence[str] | None = None,
        labels: str | None = None,
        strip: Callable[[Manifest], Manifest] = without_managed_fields,
    ) -> None:
        self.kind = kind
        self.trouble: KomputerError | None = None
        """Why the server cannot be followed now; None while it is."""
        self._cluster = cluster
        self._labels = labels
        self._strip = strip
        self._scopes = [_Scope(kind, namespace) for namespace in ((None,) if namespaces is None else namespaces)]
        self._store = ObjectStore(namespaces, selects(labels))
        self._lookups: Lookups[ObjectRef, Manifest | None] = Lookups(self._look_up)
        self._unlisted = {scope.namespace for scope in self._scopes}
        self._synced = asyncio.Event()
        self._subscribers: list[Callable[[CacheChange], None]] = []
        self._untold: deque[CacheChange] = deque()
        self._telling = False

    async def run(self) -> None:
        """List and watch for ever, whatever the server does. An answer that cannot be read raises: whoever runs this
        runs it again (`background`), and everything is listed anew."""
        if not self._scopes:
            self._synced.set()
        async with asyncio.TaskGroup() as tasks:
            for scope in self._scopes:
                tasks.create_task(self._follow(scope), name=f"cache of {self.kind.of(None, scope.namespace)}")

    async def synced(self) -> None:
        """Waits until everything was listed once."""
        await self._synced.wait()

    @property
    def is_synced(self) -> bool:
        return self._synced.is_set()

    @property
    def stale_s(self) -> float:
        """For how many seconds the server has not been followed; 0 while a watch is open."""
        now = time.monotonic()
        return max((now - scope.lost_since for scope in self._scopes if scope.lost_since is not None), default=0.0)

    @property
    def version(self) -> int:
        """Goes up with each change."""
        return self._store.version

    def get(self, namespace: str | None, name: str) -> Manifest | None:
        return self._store.get(namespace, name)

    async def find(self, namespace: str, name: str) -> Manifest | None:
        """As `get`; what is not known is asked for, since it may have been made a moment ago. None for one that is not
        there, is terminating, cannot have such a name, or is of a namespace that is not followed. Raises what
        `Cluster.get` raises beside, and `Unavailable` (`too_many_lookups`)."""
        manifest = self.get(namespace, name)
        if manifest is None and self._store.follows(namespace):
            manifest = await self._lookups.get(ObjectRef(namespace, name))
        return None if manifest is None or is_terminating(manifest) else manifest

    async def _look_up(self, ref: ObjectRef) -> Manifest | None:
        namespace, name = ref
        if (known := self.get(namespace, name)) is not None:  # told while the lookup waited
            return known
        try:
            manifest = await self._cluster.get(self.kind, name, namespace)
        except (NotFound, Invalid):  # Invalid: what Kubernetes takes for no name
            return None
        self.put(manifest)
        return manifest

    def __len__(self) -> int:
        """How many objects it holds, in all namespaces."""
        return len(self._store)

    def items(self, namespace: str | None = None) -> list[Manifest]:
        """All objects (of one namespace), in no particular order."""
        return self._store.items(namespace)

    def put(self, manifest: Manifest) -> None:
        """Take the server's answer to a write of ours, so that we read our own writes; newer knowledge stays."""
        self._tell(self._store.put(self._strip(manifest)))

    def forget(self, manifest: Manifest, left: Manifest | None = None) -> None:
        """Take that we have deleted `manifest` (with its uid and resourceVersion); `left` is what `Cluster.delete`
        returned: the object as it terminates, or None when it is gone."""
        if left is not None:
            self.put(left)
        else:
            self._tell(self._store.forget(self._strip(manifest)))

    def subscribe(self, callback: Callable[[CacheChange], None]) -> Callable[[], None]:
        """Call `callback` with each later change, in order, at once; returns what ends that. It must not block."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback) if callback in self._subscribers else None

    async def _follow(self, scope: "_Scope") -> None:
        failures, scope.version = 0, None
        while True:
            started = time.monotonic()
            told_before = scope.events
            try:
                if scope.version is None:
                    await self._list(scope)
                await self._watch(scope)
                failed = time.monotonic() - started < SHORTEST_WATCH_S
            except ResourceExpired as error:
                log.info("history was compacted, listing anew", **scope.fields, error=error.message)
                failed, scope.version = True, None
            except KomputerError as error:
                if failures == 0:
                    log.warning("cache lost the server", **scope.fields, error=error.message)
                failed, self.trouble = True, error
            finally:
                scope.lost_since = scope.lost_since or time.monotonic()
            if scope.events > told_before or not failed:
                failures = 0
            if not failed:
                continue
            failures += 1
            if failures % FAILURES_UNTIL_LIST == 0:
                scope.version = None
            await asyncio.sleep(pause_s(failures) * random.uniform(0.5, 1.5))

    async def _list(self, scope: "_Scope") -> None:
        listing = await self._cluster.list(self.kind, scope.namespace, self._labels)
        self._tell(self._store.listed(map(self._strip, listing.items), int(listing.resource_version), scope.namespace))
        scope.version = listing.resource_version
        self._unlisted.discard(scope.namespace)
        if not self._unlisted:
            self._synced.set()

    async def _watch(self, scope: "_Scope") -> None:
        watch = self._cluster.watch(
            self.kind,
            scope.namespace,
            self._labels,
            resource_version=scope.version or "",
            timeout_s=round(WATCH_S * random.uniform(0.9, 1.1)),
        )
        async with aclosing(watch) as events:
            async for event in events:
                scope.version = event.manifest["metadata"]["resourceVersion"]
                if event.type == "BOOKMARK":
                    self.trouble, scope.lost_since = None, None
                    self._store.told_up_to(int(scope.version), scope.namespace)
                else:
                    scope.events += 1
                    self._tell(self._store.told(event.type, self._strip(event.manifest)))

    def _tell(self, changes: list[CacheChange]) -> None:
        # A subscriber may write into the cache: what follows from that is told after what came before, to everybody.
        self._untold.extend(changes)
        if self._telling:
            return
        self._telling = True
        try:
            while self._untold:
                change = self._untold.popleft()
                for subscriber in tuple(self._subscribers):
                    try:
                        subscriber(change)
                    except Exception:  # border: a subscriber's defect is not the cache's, nor the other subscribers'
                        log.exception("subscriber failed", kind=self.kind.kind, subscriber=repr(subscriber))
        finally:
            self._telling = False


@dataclass(slots=True)
class _Scope:
    """What is listed and watched on its own."""

    kind: Kind
    namespace: str | None
    version: str | None = None
    """To watch from; None: to be listed first."""
    events: int = 0
    lost_since: float | None = field(default_factory=time.monotonic)
    """None while a watch is open."""

    @property
    def fields(self) -> dict[str, str | None]:
        return {"kind": self.kind.kind, "namespace": self.namespace}


def pause_s(failures: int) -> float:
    """How long to wait after so many failures in a row (1 or more)."""
    return min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE_S)
