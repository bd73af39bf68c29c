"""Serves watches. Each one reads the history of its resource at its own pace, so that a slow reader does not delay
others."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import orjson

from komputer.local.apiserver.errors import StatusError, expired
from komputer.local.apiserver.selectors import Selector
from komputer.local.apiserver.store import Object, ObjectChange, ObjectDatabase, Stored, WatchHistory

Encode = Callable[[Stored], bytes]

BOOKMARK_INTERVAL_S: Final = 60.0
"""Seconds between two bookmarks of a watch that asked for them; the real server's interval."""


@dataclass(frozen=True, slots=True)
class Watch:
    """The parameters of a watch. If `revision` is None, it begins with all existing objects as ADDED."""

    resource: str
    namespace: str | None
    selector: Selector | None
    revision: int | None
    bookmark: Object | None
    """Kind and apiVersion of the bookmarks; None if the client did not ask for any."""
    timeout: timedelta | None = None

    def concerns(self, stored: Stored) -> bool:
        return (self.namespace is None or stored.address[1] == self.namespace) and (
            self.selector is None or self.selector(stored.object)
        )


async def follow(
    watch: Watch,
    store: ObjectDatabase,
    history: WatchHistory,
    encode: Encode,
    stopping: asyncio.Event,
) -> AsyncIterator[bytes]:
    """Yield the watch as lines of JSON until its timeout, until its history is compacted, or until `stopping` is set.

    The position of a watch is the revision of the last change that it has read. There is no queue per watch: after each
    wake-up it reads the changes since its position from the shared history. A reader that falls behind by more than the
    history's length gets a 410 and lists again. A bookmark tells the client the current position while no change
    concerns it, so that it can resume from there later."""
    loop = asyncio.get_running_loop()
    timeout = watch.timeout or timedelta(minutes=random.uniform(30, 60))
    ends = loop.time() + timeout.total_seconds()
    wake = asyncio.Event()
    history.wake_events.add(wake)
    try:
        if watch.revision is None:
            revision = store.revision
            lines = [
                _line("ADDED", encode(stored))
                for stored in store.all(watch.resource, watch.namespace)
                if watch.concerns(stored)
            ]
            if lines:
                yield b"".join(lines)
        else:
            revision = watch.revision
        next_bookmark = loop.time() + BOOKMARK_INTERVAL_S
        while True:
            wake.clear()
            changes = history.since(revision)
            if changes is None:
                yield _line("ERROR", orjson.dumps(too_old(revision, history).status()))
                return
            if changes:
                lines = [line for change in changes if (line := _change(watch, change, encode))]
                revision = changes[-1].stored.revision
                if lines:
                    yield b"".join(lines)
                    continue
            if stopping.is_set():
                return
            due = min(ends, next_bookmark) if watch.bookmark else ends
            try:
                async with asyncio.timeout_at(due):
                    await wake.wait()
                continue
            except TimeoutError:
                pass
            if watch.bookmark:
                # No change of this resource is unread, so the watch is up to date with the whole store.
                if history.since(revision) == []:
                    revision = max(revision, store.revision)
                meta = {"resourceVersion": str(revision), "creationTimestamp": None}
                yield _line("BOOKMARK", orjson.dumps({**watch.bookmark, "metadata": meta}))
                next_bookmark = loop.time() + BOOKMARK_INTERVAL_S
            if loop.time() >= ends:
                return
    finally:
        history.wake_events.discard(wake)


def too_old(revision: int, history: WatchHistory) -> StatusError:
    """Return the error for a client that asks for more history than is kept."""
    return expired(f"too old resource version: {revision} ({history.compacted})")


def _change(watch: Watch, change: ObjectChange, encode: Encode) -> bytes | None:
    """Return the line of a change; None if the object matches the watch neither before nor after it. An object that
    begins to match the selector is ADDED, one that ceases to match is DELETED."""
    was = change.before is not None and watch.concerns(change.before)
    if change.type == "DELETED":
        return _line("DELETED", encode(change.stored)) if was else None
    match was, watch.concerns(change.stored):
        case False, True:
            return _line("ADDED", encode(change.stored))
        case True, True:
            return _line("MODIFIED", encode(change.stored))
        case True, False:
            return _line("DELETED", encode(_last_matching(change)))
    return None


def _last_matching(change: ObjectChange) -> Stored:
    """Return the last version that matched the selector, with the resourceVersion of the change."""
    before = change.before or change.stored
    meta = {**before.object["metadata"], "resourceVersion": str(change.stored.revision)}
    body = {**before.object, "metadata": meta}
    return Stored(before.address, change.stored.revision, body, orjson.dumps(body))


def _line(type: str, body: bytes) -> bytes:
    return b'{"type":"' + type.encode() + b'","object":' + body + b"}\n"
