"""The data directory: all data that outlives a run of the platform, private to its owner."""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from komputer.domain.errors import KomputerError

FORMAT = 1
"""The version of the directory's layout. A release that changes the layout increments it and migrates older
directories."""
OURS = ("komputer.json", "objects.db", "lock", "valkey", "volumes")
"""Names in a data directory. A directory with one of them is considered a data directory."""
IGNORED = ("lost+found",)
"""Names that a new data directory may contain. Names that begin with a dot are allowed too."""

RELEASE_S = 1.0
"""How long the last processes of a killed platform may keep its name bound."""


class InUse(KomputerError):
    """Another process uses the directory or the port; the message says what to do."""

    code = "in_use"


class Unusable(KomputerError):
    """The directory cannot hold a platform's data; the message says why and what to do."""

    code = "data_dir"


class NoDataDirectory(KomputerError):
    """No platform has kept its data at this path; the message says what to do."""

    code = "data_dir"


def existing(path: Path | None) -> Path:
    """Return the absolute path of a data directory, or of the default one. Raises `NoDataDirectory`."""
    found = (path or default_path()).absolute()
    if not any((found / name).exists() for name in OURS):
        raise NoDataDirectory(f"there is no data directory at {found}; say with --data-dir where it is")
    return found


def require_regular_files(*paths: Path) -> None:
    """Raise `Unusable` if one of the paths exists and is a directory, a pipe or a device: to open it would fail or
    block."""
    for path in paths:
        if path.exists() and not path.is_file():
            raise Unusable(f"{path} is not a regular file; move it away and try again")


def default_path() -> Path:
    """Return `$XDG_DATA_HOME/komputer`, else `~/.local/share/komputer`. Raises `Unusable` if there is no home
    directory."""
    try:
        return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "komputer"
    except RuntimeError as homeless:
        raise Unusable("there is no home directory; say with --data-dir where to keep the data") from homeless


class DataDir:
    """A data directory, opened and locked for the life of this process. Raises `InUse` if another platform runs on it,
    `Unusable` if it cannot be used. `note` is called with lines for the person who starts the platform.

    The directory itself is locked, since a lock file can be removed. The file `lock` is locked too, for file systems
    that can lock only files.

    `installation` is an id from which the keys of the platform's tokens are derived. A copy of the directory gets a new
    id, since a copy must not act as the original. A copy is detected in two ways: the directory has another inode,
    which a rename would keep; or another running platform has bound the id's name in this machine's network
    namespace."""

    def __init__(self, path: Path, note: Callable[[str], None] = lambda line: None) -> None:
        self.path = path.absolute()
        self._note = note
        os.umask(0o077)
        try:
            self._open()
        except OSError as wrong:
            why = wrong.strerror or str(wrong)
            if isinstance(wrong, FileExistsError):
                why = (
                    "it is a link that leads nowhere"
                    if self.path.is_symlink() and not self.path.exists()
                    else "it is a file"
                )
            where = f" ({wrong.filename})" if wrong.filename and Path(str(wrong.filename)) != self.path else ""
            raise Unusable(
                f"cannot use {self.path} as the data directory: {why}{where}; choose another with --data-dir"
            ) from wrong

    def _open(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = os.listdir(self.path)
        foreign = [name for name in found if not name.startswith(".") and name not in IGNORED]
        if foreign and not any(name in OURS for name in found):
            raise Unusable(
                f"{self.path} holds other files ({foreign[0]!r}) and no data of Komputer; choose another directory "
                "with --data-dir"
            )
        require_regular_files(self.path / "komputer.json", self.path / "lock", self.objects, self.kubeconfig)
        self._directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fchmod(self._directory, 0o700)
        self._lock_descriptor(self._directory, is_needed=False)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock_descriptor(self._lock, is_needed=True)
        self._settings = self._read_settings()
        self._establish_identity()
        self.restore()

    def _lock_descriptor(self, descriptor: int, *, is_needed: bool) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise InUse(
                f"a platform already runs on {self.path}; stop it, or choose another directory with --data-dir"
            ) from taken
        except OSError:  # NFS does not lock directories
            if is_needed:
                raise

    def restore(self) -> None:
        """Create the folders and the lock file that the parts need, if they were removed. Raises `OSError`."""
        for folder in (self.path, self.logs, self.valkey):
            folder.mkdir(exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path / "lock", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def why_lost(self) -> str | None:
        """Return why this process must stop: the directory is no longer at its path. Otherwise return None."""
        try:
            found, held = self.path.stat(), os.fstat(self._directory)
        except FileNotFoundError:
            return f"the data directory {self.path} was removed or renamed; the platform stops"
        except OSError:
            return None  # a fault of the disk or the network, which may pass
        if (found.st_dev, found.st_ino) != (held.st_dev, held.st_ino):
            return f"the data directory {self.path} was replaced by another; the platform stops"
        return None

    def _read_settings(self) -> dict[str, Any]:
        """Return the content of `komputer.json`. A damaged file is renamed, since all of it can be created again."""
        file = self.path / "komputer.json"
        try:
            found = json.loads(file.read_bytes())
            fields = {"format": int, "token": str, "ports": dict}
            if not isinstance(found, dict) or any(type(found.get(name)) is not kind for name, kind in fields.items()):
                raise ValueError("fields are missing or of another type")
        except FileNotFoundError:
            return self._new_settings()
        except (ValueError, RecursionError):
            aside = set_aside(file)
            self._note(f"note: {file} was damaged and is replaced; the old file is {aside.name}")
            return self._new_settings()
        if found["format"] > FORMAT:
            raise InUse(
                f"{self.path} was written by a newer Komputer (format {found['format']}); install that version or newer"
            )
        found["ports"] = {name: port for name, port in found["ports"].items() if _is_port(port)}
        return found

    @staticmethod
    def _new_settings() -> dict[str, Any]:
        return {"format": FORMAT, "token": secrets.token_urlsafe(32), "ports": {}}

    def _establish_identity(self) -> None:
        inode = os.fstat(self._directory).st_ino
        known = self._settings.get("installation")
        has_moved = self._settings.get("inode", inode) != inode
        if isinstance(known, str) and not has_moved and self._hold_name(known):
            self._settings["inode"] = inode
            return
        if isinstance(known, str):
            self._note(
                f"note: {self.path} is a copy of another data directory: it becomes a separate installation, "
                "with a new kubeconfig and new addresses"
            )
            self._settings = self._new_settings()
        self._settings |= {"installation": secrets.token_hex(16), "inode": inode}
        self._hold_name(self._settings["installation"])

    def _hold_name(self, installation: str) -> bool:
        """Bind the installation's name (an abstract Unix socket) in this machine's network namespace, until this
        process ends. Return False if another platform has bound it. The name is not secret: a process that binds it
        while the platform is stopped only causes a new installation id."""
        if sys.platform != "linux":
            return True
        self._name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deadline = time.monotonic() + RELEASE_S
        while True:
            try:
                self._name.bind(f"\0komputer-{installation}")
                return True
            except OSError:
                if time.monotonic() > deadline:
                    self._name.close()
                    return False
                time.sleep(0.02)

    def save(self) -> None:
        """Write the settings to a private file, atomically."""
        new = self.path / "komputer.json.new"
        with new.open("w", encoding="utf-8") as file:
            json.dump(self._settings, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path / "komputer.json")

    @property
    def token(self) -> str:
        """The administrator's token for this platform's Kubernetes API, which is in the kubeconfig."""
        return str(self._settings["token"])

    @property
    def installation(self) -> str:
        return str(self._settings["installation"])

    @property
    def kubeconfig(self) -> Path:
        return self.path / "kubeconfig"

    @property
    def objects(self) -> Path:
        return self.path / "objects.db"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def valkey(self) -> Path:
        return self.path / "valkey"

    def listen(self, part: str) -> socket.socket:
        """Return a listening loopback socket for a part. It has the port of the last run if that is free, since running
        agents use that address."""
        ports: dict[str, int] = self._settings["ports"]
        try:
            listening = listen("127.0.0.1", ports.get(part, 0))
        except InUse:
            listening = listen("127.0.0.1", 0)
        ports[part] = listening.getsockname()[1]
        return listening


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder, so that nothing is lost. Return its new path."""
    aside = aside_path(path)
    path.rename(aside)
    return aside


def aside_path(path: Path) -> Path:
    """Return an unused path beside `path` for a copy of it, with the time (UTC) in its name."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    names = (f"{path.name}.damaged-{stamp}{suffix}" for suffix in ("", *(f"-{n}" for n in range(1, 1000))))
    return next(candidate for name in names if not (candidate := path.with_name(name)).exists())


def _is_port(value: object) -> bool:
    return type(value) is int and 0 < value < 65536


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises `InUse` if the port is taken or the address is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(1024)
    except OSError as wrong:
        made.close()
        raise InUse(
            f"cannot listen on {host}:{port} ({wrong.strerror}); choose another with --port, 0 takes a free one"
        ) from wrong
    made.setblocking(False)
    return made
