"""The data directory: everything that outlives a run, private to its owner."""

import fcntl
import json
import os
import secrets
import socket
from pathlib import Path

from komputer.resources.errors import KomputerError

FORMAT = 1
"""Of the directory's layout. A release that changes it raises the number and migrates what it finds."""


class InUse(KomputerError):
    """Another platform has this, or something else does; the message says what to do."""

    code = "in-use"


def default_path() -> Path:
    """`$XDG_DATA_HOME/komputer`, else `~/.local/share/komputer`."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "komputer"


class DataDir:
    """Opened and locked for the life of this process. Raises `InUse` where another platform runs on it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        os.umask(0o077)
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o700)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise InUse(
                f"a platform already runs on {self.path}; stop it, or choose another directory with --data-dir"
            ) from taken
        self._settings = self._checked()
        for folder in (self.logs, self.valkey):
            folder.mkdir(exist_ok=True, mode=0o700)

    def _checked(self) -> dict[str, object]:
        file = self.path / "komputer.json"
        if not file.exists():
            return {"format": FORMAT, "token": secrets.token_urlsafe(32), "ports": {}}
        try:
            settings = json.loads(file.read_text("utf-8"))
            found = settings["format"]
        except (ValueError, KeyError, TypeError) as wrong:
            raise InUse(f"{file} cannot be read; move {self.path} away to start anew") from wrong
        if found > FORMAT:
            raise InUse(f"{self.path} was written by a newer Komputer (format {found}); install that version or newer")
        return dict(settings)

    def save(self) -> None:
        """Writes the settings; private, and never half."""
        new = self.path / "komputer.json.new"
        new.write_text(json.dumps(self._settings), "utf-8")
        new.replace(self.path / "komputer.json")

    @property
    def token(self) -> str:
        """Of the kubeconfig: whoever has it may do everything on this platform's Kubernetes API."""
        return str(self._settings["token"])

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
        """A listening loopback socket for one of our own parts: on the port of the last run where that is free, since
        agents that go on know it."""
        ports = self._settings["ports"]
        assert isinstance(ports, dict)
        try:
            listening = listen("127.0.0.1", int(ports.get(part, 0)))
        except InUse:
            listening = listen("127.0.0.1", 0)
        ports[part] = listening.getsockname()[1]
        return listening


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `InUse` where the port is taken or the address is not this machine's."""
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
