"""Removes data from the disk. The folder of a deleted object is discarded and then removed; a folder without an object
is set aside.

An agent chooses the modes, depth and names in its tree. The tree is removed whatever they are, and nothing outside of
it is changed. `shutil.rmtree` is not used: it fails on directories without write permission and on immutable files, and
recurses once per level.
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

MAX_OPEN_DEPTH: Final = 64
"""Maximum number of directories that are open at once. A directory at this depth is first moved to the top of the tree,
so that no depth exhausts descriptors, the stack or the length of a path."""
GETFLAGS, SETFLAGS = 0x80086601, 0x40086602
IMMUTABLE, APPEND_ONLY = 0x10, 0x20
"""Inode flags of ioctl_iflags(2) and chattr(1). Only root may set and clear them."""
DELETED: Final = ".deleted"
"""The name of the folder for discarded trees. It is beside them, on the same file system, so a rename into it is atomic
and needs no space."""
LOST_AND_FOUND: Final = "lost+found"
O_PATH = getattr(os, "O_PATH", os.O_RDONLY)


def discard(path: Path) -> Path | None:
    """Move `path` into `.deleted/` beside it and return its new path; None if it does not exist. Its place in that
    folder records for the next run that it was deleted. Raises `OSError`."""
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
    """Move a folder without an object to `lost+found/KIND/` of the data directory; KIND is the name of its parent
    folder. If it cannot be moved, it stays where it is."""
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
        log.warning("unknown folder not moved", path=str(path), error=error.strerror)
        return
    log.warning("unknown folder moved to lost+found", kind=kind, path=str(target))


def remove_tree(path: Path, has_stopped: Callable[[], bool] = lambda: False) -> None:
    """Remove `path` and everything below it.

    Symbolic links are removed, not followed. Mounted file systems are left alone. Everything that can be removed is
    removed, then the first `OSError` is raised. Stops early if `has_stopped` returns true."""
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        found = os.lstat(path.name, dir_fd=parent)
        removal = _Removal(found.st_dev, has_stopped)
        if stat.S_ISDIR(found.st_mode):
            removal.remove_directory(parent, path.name)
        else:
            removal.remove_file(parent, path.name)
    except FileNotFoundError:
        return
    finally:
        os.close(parent)
    if removal.failed:
        raise removal.failed


class _Removal:
    """The removal of one tree. Works on directory descriptors only, never on paths, so that a concurrent rename cannot
    lead it out of the tree."""

    def __init__(self, device: int, has_stopped: Callable[[], bool]) -> None:
        self._has_stopped = has_stopped
        self.failed: OSError | None = None
        self._device = device
        self._top = -1
        self._moved = 0

    def remove_directory(self, parent: int, name: str) -> None:
        self._top = self._open(parent, name)
        try:
            # Each pass moves directories that are too deep to the top of the tree, where the next pass removes them.
            # The last pass has moved none.
            moved = -1
            while moved != self._moved:
                moved = self._moved
                self._empty(self._top, 1)
        finally:
            os.close(self._top)
        with self._recording_error(name):
            self._unlink(parent, name, is_directory=True)

    def _empty(self, folder: int, depth: int) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                if self._has_stopped():
                    self.failed = self.failed or OSError(errno.ECANCELED, "removal was stopped", entry.name)
                    return
                with self._recording_error(entry.name):
                    if not entry.is_dir(follow_symlinks=False):
                        self._unlink(folder, entry.name, is_directory=False)
                        continue
                    below = self._open(folder, entry.name)
                    try:
                        if depth >= MAX_OPEN_DEPTH:
                            self._move_up(folder, entry.name)
                            continue
                        self._empty(below, depth + 1)
                    finally:
                        os.close(below)
                    self._unlink(folder, entry.name, is_directory=True)

    def _move_up(self, folder: int, name: str) -> None:
        """Move a directory to the top of the tree, where the next pass removes it."""
        self._moved += 1
        os.rename(name, f".removed-{os.getpid()}-{self._moved}", src_dir_fd=folder, dst_dir_fd=self._top)

    def remove_file(self, folder: int, name: str) -> None:
        with self._recording_error(name):
            self._unlink(folder, name, is_directory=False)

    def _unlink(self, folder: int, name: str, *, is_directory: bool) -> None:
        """Unlink an entry. On a permission error, clear the flags of the entry and of its directory, and try again."""
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
        """Open a directory for reading and writing. It is first opened with O_PATH, and its mode is changed through
        that descriptor: an agent cannot replace it by a link to another file in between."""
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
    def _recording_error(self, name: str) -> Iterator[None]:
        """Record the first error instead of raising it."""
        try:
            yield
        except FileNotFoundError:
            return
        except OSError as error:
            self.failed = self.failed or OSError(error.errno, error.strerror, name)


def _clear_flags_of(held: int) -> None:
    """Clear the flags of a directory that is opened with O_PATH. Such a descriptor allows no ioctl, so the directory is
    opened again through it."""
    with contextlib.suppress(OSError):
        handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=held)
        try:
            _clear_flags(handle)
        finally:
            os.close(handle)


def _clear_flags(handle: int) -> None:
    """Clear the flags that chattr sets, if this process is root and the file system has them."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return
    with contextlib.suppress(OSError):
        flags = int.from_bytes(fcntl.ioctl(handle, GETFLAGS, bytes(8)), sys.byteorder)
        if flags & (IMMUTABLE | APPEND_ONLY):
            fcntl.ioctl(handle, SETFLAGS, (flags & ~(IMMUTABLE | APPEND_ONLY)).to_bytes(8, sys.byteorder))
