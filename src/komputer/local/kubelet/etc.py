"""Creates the `/etc` of sandboxes: a small, fixed set of files that programs need, some copied, some generated.

Only regular, world-readable files are copied, once, when the kubelet starts. A file that is added to the machine's
`/etc` later, or that only root can read, is never in a sandbox. `hosts` and `resolv.conf` are copied again when they
change, since a laptop changes its network.
"""

import contextlib
import os
import shutil
import stat
from pathlib import Path
from typing import Final

FILES: Final = (
    *("host.conf", "gai.conf", "networks", "nsswitch.conf", "protocols", "services"),
    *("ld.so.cache", "ld.so.conf", "localtime", "timezone", "os-release", "debian_version", "lsb-release"),
    *("redhat-release", "mime.types", "shells", "inputrc", "bash.bashrc", "profile", "magic"),
    *("ssl/openssl.cnf", "pki/tls/openssl.cnf", "ca-certificates.conf"),
)
FOLDERS: Final = (
    *("alternatives", "ld.so.conf.d", "ssl/certs", "pki/tls/certs", "pki/ca-trust/extracted", "crypto-policies"),
    *("ca-certificates/extracted", "fonts", "perl", "terminfo", "python3", "python3.11", "python3.12", "python3.13"),
)
"""Folders with public content: the system's certificates, the linker's paths, the alternatives of programs."""
NETWORK: Final = ("hosts", "resolv.conf")
FILE_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""The largest file that is copied. None of the files above is that large."""
GENERATED: Final = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\nagent:x:1000:1000:agent:/workspace:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n",
    "hostname": "agent\n",
}
"""The content of generated files, which contain the user of the sandbox."""


def make_etc(target: Path, source: Path = Path("/etc")) -> None:
    """Create `target`, replacing an older one. Unreadable files are skipped. Raises `OSError` if `target` cannot be
    written."""
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True, mode=0o700)
    for name, text in GENERATED.items():
        (new / name).write_text(text)
    for name in (*FILES, *NETWORK):
        _copy(source / name, new / name)
    for name in FOLDERS:
        for folder, folders, files in os.walk(source / name):
            for file in (*files, *(each for each in folders if Path(folder, each).is_symlink())):
                path = Path(folder, file)
                _copy(path, new / path.relative_to(source))
    (new / "mtab").symlink_to("/proc/mounts")
    for path in new.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o700 if path.is_dir() else 0o600)  # the sandbox's user owns them, and /etc is mounted read-only
    shutil.rmtree(target, ignore_errors=True)
    new.replace(target)


def follow_network(target: Path, source: Path = Path("/etc")) -> None:
    """Copy the machine's `hosts` and `resolv.conf` if they have changed. Raises `OSError`."""
    for name in NETWORK:
        data = _content(source / name)
        path = target / name
        if data is not None and (not path.exists() or path.read_bytes() != data):
            temporary = path.with_name(f".{name}.new")
            temporary.write_bytes(data)
            temporary.chmod(0o600)
            temporary.replace(path)


def _copy(path: Path, target: Path) -> None:
    if path.is_symlink() and str(path.readlink()).startswith(("/usr/", "/etc/alternatives/", "../usr/")):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path.readlink())
        return
    data = _content(path)
    if data is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _content(path: Path) -> bytes | None:
    """Return the content of a regular, world-readable file, else None. Links are followed."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IROTH and found.st_size <= FILE_LIMIT_BYTES:
                return file.read()
    return None
