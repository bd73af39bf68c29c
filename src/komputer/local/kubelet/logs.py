"""What containers printed: one folder per pod and container, two files of at most 10 MiB each."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

from komputer.local.apiserver.logs import LogRequest, LogSource
from komputer.resources.base import Manifest

FILE_LIMIT_BYTES = 10 * 1024 * 1024
"""As the kubelet's containerLogMaxSize; one older file is kept."""
READ_BYTES = 65_536
FOLLOW_S = 0.2
"""How often a follower looks for more. Files have no bell that works everywhere."""


def pod_folder(folder: Path, pod: Manifest) -> Path:
    """Where a pod's logs lie: `<namespace>_<name>_<uid>`."""
    meta = pod["metadata"]
    return folder / f"{meta['namespace']}_{meta['name']}_{meta['uid']}"


class LogFile:
    """Appends, and starts a new file where the old one is full."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()

    def write(self, data: bytes) -> None:
        if self._size + len(data) > FILE_LIMIT_BYTES and self._size:
            self._file.close()
            self._path.replace(self._path.with_suffix(".log.1"))
            self._file, self._size = self._path.open("ab", buffering=0), 0
        self._file.write(data)
        self._size += len(data)

    def close(self) -> None:
        self._file.close()


def log_source(folder: Path) -> LogSource:
    """What answers `kubectl logs`: what the container printed, over all of its restarts; older than 20 MiB is gone."""

    async def read(asked: LogRequest) -> AsyncIterator[bytes]:
        found = sorted(folder.glob(f"{asked.namespace}_{asked.pod}_*/{asked.container}.log"), key=_age)
        if not found:
            raise LookupError(f"container {asked.container!r} has printed nothing yet")
        path, position = found[-1], 0
        older = path.with_suffix(".log.1")
        if asked.tail_lines is not None:
            lines: deque[bytes] = deque(maxlen=asked.tail_lines)
            for part in (older, path):
                if part.exists():
                    lines.extend(re.findall(rb"[^\n]*\n|[^\n]+", part.read_bytes()))
            position = path.stat().st_size
            yield b"".join(lines)
        elif older.exists():
            yield older.read_bytes()
        inode = path.stat().st_ino
        while path.exists():
            if path.stat().st_ino != inode:
                inode, position = path.stat().st_ino, 0
            with path.open("rb") as file:
                file.seek(position)
                data = file.read(READ_BYTES)
            position += len(data)
            if data:
                yield data
            elif not asked.follow:
                return
            else:
                await asyncio.sleep(FOLLOW_S)

    return read


def _age(path: Path) -> float:
    return path.stat().st_mtime
