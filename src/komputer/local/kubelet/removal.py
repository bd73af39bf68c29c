"""How data leaves the disk: what was deleted is discarded and then removed, what is merely unknown is set aside.

A tree that an agent has made is removed whatever its modes, owners and depth, and nothing outside of it.
"""

import contextlib
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

DEPTH_LIMIT: Final = 64
"""Directories that are open at once. What lies deeper is moved up to the top first, so that no depth exhausts
descriptors, the stack or the length of a path."""
GETFLAGS, SETFLAGS = 0x80086601, 0x40086602
IMMUTABLE, APPEND_ONLY = 0x10, 0x20
"""ioctl_iflags(2), chattr(1): only root may set them, and clear them."""
DELETED: Final = ".deleted"
"""Beside what is discarded, so on its file system: moving there is one step and needs no space."""
LOST_AND_FOUND: Final = "lost+found"
O_PATH = getattr(os, "O_PATH", os.O_RDONLY)


def discard(path: Path) -> Path | None:
    """Moves `path` to `.deleted/` beside it, where it waits for its removal; None where there is nothing. That it lies
    there is the proof, also for the next run, that it was deleted. Raises `OSError`."""
    target = path.parent / DELETED / path.name
    try:
        target.parent.mkdir(exist_ok=True, mode=0o700)
        if target.exists():
            target = target.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
        path.rename(target)
    except FileNotFoundError:
        return None
    return target


def set_aside(path: Path, data_dir: Path) -> None:
    """Moves what nobody knows to `lost+found/KIND/` of the data directory; KIND is the folder that it lies in. What
    cannot be moved stays where it is."""
    kind = "logs" if path.parent.parent.name == "logs" else path.parent.name
    folder = data_dir / LOST_AND_FOUND / kind
    target = folder / path.name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if target.exists():
            target = target.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
        path.rename(target)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("unknown folder was left where it is", path=str(path), error=error.strerror)
        return
    log.warning("unknown folder was moved to lost+found", kind=kind, path=str(target))


def remove_tree(path: Path, has_stopped: Callable[[], bool] = lambda: False) -> None:
    """Removes `path` and all below it. Symbolic links are removed, not followed; other file systems that are mounted
    below stay. Raises the first `OSError` when everything that can be removed is, or soon after `has_stopped`."""
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        found = os.lstat(path.name, dir_fd=parent)
        removal = _Removal(found.st_dev, has_stopped)
        if stat.S_ISDIR(found.st_mode):
            removal.remove_top(parent, path.name)
        else:
            removal.unlink(parent, path.name)
    except FileNotFoundError:
        return
    finally:
        os.close(parent)
    if removal.failed:
        raise removal.failed


class _Removal:
    def __init__(self, device: int, has_stopped: Callable[[], bool]) -> None:
        self._has_stopped = has_stopped
        self.failed: OSError | None = None
        self._device = device
        self._top = -1
        self._moved = 0

    def remove_top(self, parent: int, name: str) -> None:
        self._top = self._open(parent, name)
        try:
            moved = -1
            while moved != self._moved:
                moved = self._moved
                self._empty(self._top, 1)
        finally:
            os.close(self._top)
        with self._noted(name):
            self._unlinked(parent, name, is_directory=True)

    def _empty(self, folder: int, depth: int) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                if self._has_stopped():
                    self.failed = self.failed or OSError(errno.ECANCELED, "removal was stopped", entry.name)
                    return
                with self._noted(entry.name):
                    if not entry.is_dir(follow_symlinks=False):
                        self._unlinked(folder, entry.name, is_directory=False)
                        continue
                    below = self._open(folder, entry.name)
                    try:
                        if depth >= DEPTH_LIMIT:
                            self._move_up(folder, entry.name)
                            continue
                        self._empty(below, depth + 1)
                    finally:
                        os.close(below)
                    self._unlinked(folder, entry.name, is_directory=True)

    def _move_up(self, folder: int, name: str) -> None:
        self._moved += 1
        os.rename(name, f".removed-{os.getpid()}-{self._moved}", src_dir_fd=folder, dst_dir_fd=self._top)

    def unlink(self, folder: int, name: str) -> None:
        with self._noted(name):
            self._unlinked(folder, name, is_directory=False)

    def _unlinked(self, folder: int, name: str, *, is_directory: bool) -> None:
        take = os.rmdir if is_directory else os.unlink
        try:
            take(name, dir_fd=folder)
        except FileNotFoundError:
            return
        except PermissionError:
            _clear_flags(folder)
            with contextlib.suppress(OSError):
                handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
                try:
                    _clear_flags(handle)
                finally:
                    os.close(handle)
            take(name, dir_fd=folder)

    def _open(self, folder: int, name: str) -> int:
        """The directory, readable and writable for us. It is held by a descriptor before its mode is changed, so that
        an agent cannot put a link to something of ours in its place."""
        held = os.open(name, O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            found = os.fstat(held)
            if found.st_dev != self._device:
                raise OSError(errno.EXDEV, "another file system is mounted here", name)
            if found.st_mode & 0o700 != 0o700 and sys.platform == "linux":
                _clear_flags_of(held)
                with contextlib.suppress(PermissionError):
                    os.chmod(f"/proc/self/fd/{held}", 0o700)
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=held)
        finally:
            os.close(held)

    @contextlib.contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            return
        except OSError as error:
            self.failed = self.failed or OSError(error.errno, error.strerror, name)


def _clear_flags_of(held: int) -> None:
    """Of a directory that is held with O_PATH, which takes no ioctl."""
    with contextlib.suppress(OSError):
        handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=held)
        try:
            _clear_flags(handle)
        finally:
            os.close(handle)


def _clear_flags(handle: int) -> None:
    """Clears what chattr sets and root alone may clear; nothing where the file system or the user cannot."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return
    with contextlib.suppress(OSError):
        flags = int.from_bytes(fcntl.ioctl(handle, GETFLAGS, bytes(8)), sys.byteorder)
        if flags & (IMMUTABLE | APPEND_ONLY):
            fcntl.ioctl(handle, SETFLAGS, (flags & ~(IMMUTABLE | APPEND_ONLY)).to_bytes(8, sys.byteorder))
