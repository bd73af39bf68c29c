"""A cache of one kind of object, kept current by listing and watching, as Kubernetes' informers are.

lightkube and kubernetes_asyncio have watches but no informer; kopf's informer belongs to its framework. This cache also
stores the results of our own writes, so that a read is never older than a write before it.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import structlog

from komputer.backoff import Backoff
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
"""Duration of one watch in seconds. It is varied at random by a tenth, so that watches do not end together. A server
that hangs with open connections is detected after about this time; client-go takes 5 to 10 minutes."""
SHORTEST_WATCH_S: Final = 1.0
"""A watch that ends sooner, in seconds, is treated as a failure, so that a server which ends watches at once is not
called in a tight loop."""
BACKOFF: Final = Backoff(0.1, 10.0, jitter=0.5)
"""The delay between attempts after failures. A guess, unmeasured."""
FAILURES_UNTIL_LIST: Final = 5
"""Number of consecutive failed watches after which everything is listed again, in case the server has lost its
history."""


def without_managed_fields(manifest: Manifest) -> Manifest:
    """Return `manifest` without `managedFields`, the record of which client set which field. It is often half of an
    object, and nothing needs it."""
    metadata = manifest["metadata"]
    if "managedFields" not in metadata:
        return manifest
    return manifest | {"metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}


class Cache:
    """The objects of `kind` in their last known state, in all namespaces (None) or in `namespaces`, matching the
    equality-based selector `labels`. Methods return the stored manifests, not copies: never modify them.

    `strip` is applied to each manifest before it is stored (default: `without_managed_fields`).
    """

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
        self.error: KomputerError | None = None
        """Why the server cannot be watched now; None while a watch is open."""
        self._cluster = cluster
        self._labels = labels
        self._strip = strip
        self._scopes = [_Scope(kind, namespace) for namespace in ((None,) if namespaces is None else namespaces)]
        self._store = ObjectStore(namespaces, selects(labels))
        self._lookups: Lookups[ObjectRef, Manifest | None] = Lookups(self._look_up)
        self._unlisted = {scope.namespace for scope in self._scopes}
        self._synced = asyncio.Event()
        self._subscribers: list[Callable[[CacheChange], None]] = []
        self._pending: deque[CacheChange] = deque()
        self._is_notifying = False

    async def run(self) -> None:
        """List and watch forever, whatever errors the server returns. Raises for an answer that cannot be parsed. Call
        it again then, as `Background.run_forever` does: everything is listed again."""
        if not self._scopes:
            self._synced.set()
        async with asyncio.TaskGroup() as tasks:
            for scope in self._scopes:
                tasks.create_task(self._follow(scope), name=f"cache of {self.kind.of(None, scope.namespace)}")

    async def synced(self) -> None:
        """Wait until all objects have been listed once."""
        await self._synced.wait()

    @property
    def is_synced(self) -> bool:
        return self._synced.is_set()

    @property
    def stale_s(self) -> float:
        """The number of seconds for which a watch has been missing, the longest of all namespaces; 0 while all are
        open."""
        now = time.monotonic()
        return max((now - scope.lost_since for scope in self._scopes if scope.lost_since is not None), default=0.0)

    @property
    def version(self) -> int:
        """Increases with each change."""
        return self._store.version

    def get(self, namespace: str | None, name: str) -> Manifest | None:
        return self._store.get(namespace, name)

    async def find(self, namespace: str, name: str) -> Manifest | None:
        """Return the object. One that is not in the cache is requested from the server, because it may have been
        created a moment ago. None for an object that does not exist, is terminating, cannot have such a name, or is in
        a namespace that is not watched. Raises the other errors of `Cluster.get`, and `Unavailable`
        (`too_many_lookups`)."""
        manifest = self.get(namespace, name)
        if manifest is None and self._store.follows(namespace):
            manifest = await self._lookups.get(ObjectRef(namespace, name))
        return None if manifest is None or is_terminating(manifest) else manifest

    async def _look_up(self, ref: ObjectRef) -> Manifest | None:
        namespace, name = ref
        if (known := self.get(namespace, name)) is not None:  # the watch delivered it while the lookup waited
            return known
        try:
            manifest = await self._cluster.get(self.kind, name, namespace)
        except (NotFound, Invalid):  # Invalid: no object can have this name
            return None
        self.put(manifest)
        return manifest

    def __len__(self) -> int:
        """The number of objects, in all namespaces."""
        return len(self._store)

    def items(self, namespace: str | None = None) -> list[Manifest]:
        """Return all objects (of one namespace), in no particular order."""
        return self._store.items(namespace)

    def put(self, manifest: Manifest) -> None:
        """Store the server's answer to one of our writes, so that later reads see it. A newer state is kept."""
        self._notify(self._store.put(self._strip(manifest)))

    def forget(self, manifest: Manifest, left: Manifest | None = None) -> None:
        """Record that we have deleted `manifest`, which is identified by its uid and resourceVersion. `left` is the
        result of `Cluster.delete`: the terminating object, or None if it is gone."""
        if left is not None:
            self.put(left)
        else:
            self._notify(self._store.forget(self._strip(manifest)))

    def subscribe(self, callback: Callable[[CacheChange], None]) -> Callable[[], None]:
        """Call `callback` with each later change, synchronously and in order; it must not block. Return a function that
        ends the subscription."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback) if callback in self._subscribers else None

    async def _follow(self, scope: "_Scope") -> None:
        failures, scope.version = 0, None
        while True:
            started = time.monotonic()
            events_before = scope.events
            try:
                if scope.version is None:
                    await self._list(scope)
                await self._watch(scope)
                failed = time.monotonic() - started < SHORTEST_WATCH_S
            except ResourceExpired as error:
                log.info("history compacted, listing again", **scope.fields, error=error.message)
                failed, scope.version = True, None
            except KomputerError as error:
                if failures == 0:
                    log.warning("cache lost the server", **scope.fields, error=error.message)
                failed, self.error = True, error
            finally:
                scope.lost_since = scope.lost_since or time.monotonic()
            # A watch that delivered an event or lasted long enough proves that the server works: the back-off starts
            # again.
            if scope.events > events_before or not failed:
                failures = 0
            if not failed:
                continue
            failures += 1
            if failures % FAILURES_UNTIL_LIST == 0:
                scope.version = None
            await asyncio.sleep(BACKOFF.delay_s(failures))

    async def _list(self, scope: "_Scope") -> None:
        listing = await self._cluster.list(self.kind, scope.namespace, self._labels)
        manifests, version = map(self._strip, listing.items), int(listing.resource_version)
        self._notify(self._store.listed(manifests, version, scope.namespace))
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
                    self.error, scope.lost_since = None, None
                    self._store.bookmark(int(scope.version), scope.namespace)
                else:
                    scope.events += 1
                    self._notify(self._store.watched(event.type, self._strip(event.manifest)))

    def _notify(self, changes: list[CacheChange]) -> None:
        # A subscriber may write into the cache. The changes that follow from that are delivered after the present one,
        # so that all subscribers see the same order.
        self._pending.extend(changes)
        if self._is_notifying:
            return
        self._is_notifying = True
        try:
            while self._pending:
                change = self._pending.popleft()
                for subscriber in tuple(self._subscribers):
                    try:
                        subscriber(change)
                    except Exception:  # border: one subscriber's defect must not stop the others
                        log.exception("subscriber failed", kind=self.kind.kind, subscriber=repr(subscriber))
        finally:
            self._is_notifying = False


@dataclass(slots=True)
class _Scope:
    """A namespace, or all of them, with a list and a watch of its own."""

    kind: Kind
    namespace: str | None
    version: str | None = None
    """The resource version to watch from; None: list first."""
    events: int = 0
    lost_since: float | None = field(default_factory=time.monotonic)
    """None while a watch is open."""

    @property
    def fields(self) -> dict[str, str | None]:
        return {"kind": self.kind.kind, "namespace": self.namespace}
