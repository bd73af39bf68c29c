"""Watches: each follows the history of its resource by itself, so that a slow reader costs nobody anything."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta

import orjson

from komputer.local.apiserver.errors import StatusError, expired
from komputer.local.apiserver.selectors import Selector
from komputer.local.apiserver.store import History, Object, ObjectChange, ObjectDatabase, Stored

Encode = Callable[[Stored], bytes]


@dataclass(frozen=True, slots=True)
class Watch:
    """What is watched. `revision` None starts with everything that is there, as ADDED."""

    resource: str
    namespace: str | None
    selector: Selector | None
    revision: int | None
    bookmark: Object | None
    """The kind and apiVersion of bookmarks, None for none."""
    timeout: timedelta | None = None

    def concerns(self, stored: Stored) -> bool:
        return (self.namespace is None or stored.address[1] == self.namespace) and (
            self.selector is None or self.selector(stored.object)
        )


async def follow(
    watch: Watch,
    store: ObjectDatabase,
    history: History,
    encode: Encode,
    bookmark_interval: timedelta,
    stopping: asyncio.Event,
) -> AsyncIterator[bytes]:
    """The watch as lines of JSON, until its time is over, its history is compacted, or `stopping` is set."""
    loop = asyncio.get_running_loop()
    timeout = watch.timeout or timedelta(minutes=random.uniform(30, 60))
    ends = loop.time() + timeout.total_seconds()
    wake = asyncio.Event()
    history.waiting.add(wake)
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
        next_bookmark = loop.time() + bookmark_interval.total_seconds()
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
                if history.since(revision) == []:
                    revision = max(revision, store.revision)
                meta = {"resourceVersion": str(revision), "creationTimestamp": None}
                yield _line("BOOKMARK", orjson.dumps({**watch.bookmark, "metadata": meta}))
                next_bookmark = loop.time() + bookmark_interval.total_seconds()
            if loop.time() >= ends:
                return
    finally:
        history.waiting.discard(wake)


def too_old(revision: int, history: History) -> StatusError:
    """What a client is told that asks for more history than is kept."""
    return expired(f"too old resource version: {revision} ({history.compacted})")


def _change(watch: Watch, change: ObjectChange, encode: Encode) -> bytes | None:
    """The line of a change, with its type as the watch's selector sees it; None when it never concerned the watch."""
    was = change.before is not None and watch.concerns(change.before)
    if change.type == "DELETED":
        return _line("DELETED", encode(change.stored)) if was else None
    match was, watch.concerns(change.stored):
        case False, True:
            return _line("ADDED", encode(change.stored))
        case True, True:
            return _line("MODIFIED", encode(change.stored))
        case True, False:
            return _line("DELETED", encode(_as_it_left(change)))
    return None


def _as_it_left(change: ObjectChange) -> Stored:
    before = change.before or change.stored
    meta = {**before.object["metadata"], "resourceVersion": str(change.stored.revision)}
    body = {**before.object, "metadata": meta}
    return Stored(before.address, change.stored.revision, body, orjson.dumps(body))


def _line(type: str, body: bytes) -> bytes:
    return b'{"type":"' + type.encode() + b'","object":' + body + b"}\n"
