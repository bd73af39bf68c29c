"""Container logs: one folder per pod, with two files of at most 10 MiB per container.

`logging.handlers.RotatingFileHandler` is no alternative: it rotates text records, raises if the disk is full, and
keeps writing to a file that was deleted.
"""

import asyncio
import os
import re
from collections import deque
from collections.abc import AsyncIterator
from io import FileIO
from pathlib import Path

import structlog

from komputer.background import reason_of
from komputer.domain.base import Manifest
from komputer.local.apiserver.logs import LogRequest, LogSource

log = structlog.get_logger(__name__)

FILE_LIMIT_BYTES = 10 * 1024 * 1024
"""The largest log file: the kubelet's default for containerLogMaxSize. One older file is kept."""
READ_BYTES = 65_536
FOLLOW_INTERVAL_S = 0.2
"""Seconds between two checks of `kubectl logs --follow` for more output. The file is polled, since no notification of
file changes works on every platform."""


def pod_folder(folder: Path, pod: Manifest) -> Path:
    """Return the folder of a pod's logs: `<namespace>_<name>_<uid>`."""
    meta = pod["metadata"]
    return folder / f"{meta['namespace']}_{meta['name']}_{meta['uid']}"


class ContainerLogFile:
    """Appends a container's output, and rotates the file when it is full.

    A container never waits for its log: output that cannot be written is dropped. When there is space again, a line
    says how much was dropped. A file that was deleted is created again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._dropped_bytes = 0
        self.write(b"")  # creates the file: a container without output has a log too

    def write(self, data: bytes) -> None:
        """Append `data`, or drop it. Never raises `OSError`."""
        try:
            file = self._open(len(data))
            if self._dropped_bytes:
                _write_all(file, f"\n[{self._dropped_bytes} bytes were lost: the log could not be written]\n".encode())
                self._dropped_bytes = 0
            _write_all(file, data)
        except OSError as error:
            if not self._dropped_bytes:
                log.warning("log not written", path=str(self._path), error=reason_of(error))
            self._dropped_bytes += len(data)

    def _open(self, size: int) -> FileIO:
        """Return the file for the next `size` bytes, after rotation if they do not fit. Raises `OSError`."""
        if self._file is not None and os.fstat(self._file.fileno()).st_nlink == 0:
            self.close()
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = self._path.open("ab", buffering=0)
        length = os.fstat(self._file.fileno()).st_size
        if length and length + size > FILE_LIMIT_BYTES:
            self.close()
            self._path.replace(self._path.with_suffix(".log.1"))
            self._file = self._path.open("ab", buffering=0)
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _write_all(file: FileIO, data: bytes) -> None:
    """Write all of `data`. If a write is incomplete, the next one raises the reason as `OSError`."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) or 0 :]


def log_source(folder: Path) -> LogSource:
    """Return the source of `kubectl logs`: the output of a container over all of its restarts, at most the last 20
    MiB."""

    async def read(request: LogRequest) -> AsyncIterator[bytes]:
        """Yield the older file, then the current one from its beginning; with `tail_lines` only their last lines. With
        `follow` this never ends before the file is deleted."""
        found = sorted(folder.glob(f"{request.namespace}_{request.pod}_*/{request.container}.log"), key=_age)
        if not found:
            raise LookupError(f"container {request.container!r} has printed nothing yet")
        path, position = found[-1], 0
        older = path.with_suffix(".log.1")
        if request.tail_lines is not None:
            lines: deque[bytes] = deque(maxlen=request.tail_lines)
            for part in (older, path):
                if part.exists():
                    lines.extend(re.findall(rb"[^\n]*\n|[^\n]+", part.read_bytes()))
            position = path.stat().st_size
            yield b"".join(lines)
        elif older.exists():
            yield older.read_bytes()
        # The file is opened again for each read, since it may be rotated between two reads. If the path has another
        # inode, that is the new file, which is read from its beginning.
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
            elif not request.follow:
                return
            else:
                await asyncio.sleep(FOLLOW_INTERVAL_S)

    return read


def _age(path: Path) -> float:
    return path.stat().st_mtime
