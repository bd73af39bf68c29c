"""Folders and files on the agent's workspace that the runtime or Claude depends on.

The agent's commands run as the same user and may change, replace or lock all of them. So no file that influences Claude
is kept from one task to the next: `rebuild` creates all of them again for each start of Claude. Only the state of the
conversation (transcripts, the ledger) is kept, and it is read as untrusted input.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from komputer.runtime.settings import RuntimeSettings

SMALL_FILE_BYTES: Final = 64 * 1024
"""How many bytes `read_small` reads."""
KEPT_OF_A_SESSION: Final = frozenset({"subagents", "tool-results"})
"""Folders beside a transcript that it refers to. Claude reads no instructions from them."""
MIGRATION: Final = 15
"""The number of the newest migration that the Claude CLI (2.1.332) applies to its configuration."""
PLUGINS: Final = ("agents-md", "privacy", "plugin-authoring")
"""The plugins that the Claude CLI contains. It counts their uses in its configuration."""
_TRANSCRIPT: Final = re.compile(r"[0-9A-Za-z-]{1,64}\.jsonl")
_SESSION: Final = re.compile(r"[0-9A-Za-z-]{1,64}")


def prepare(settings: RuntimeSettings) -> None:
    """Create or repair the runtime's folders. Raises `OSError` if that is not possible."""
    if not settings.workspace.exists():
        settings.workspace.mkdir(parents=True)
    _allow_owner(settings.workspace, os.stat(settings.workspace))
    for folder in (settings.state, settings.home, settings.claude):
        own_folder(folder)


def rebuild(settings: RuntimeSettings, temporary: Path) -> None:
    """Create a new home, a new folder for temporary files, and a configuration folder with only the transcripts and the
    runtime's `.claude.json`. Called before each start of Claude. Raises `OSError` if that is not possible."""
    prepare(settings)
    remove(settings.home)
    settings.home.mkdir(mode=0o700)
    make_temporary(temporary)
    for entry in _entries(settings.claude):
        if entry.name != "projects":
            remove(settings.claude / entry.name)
    write_private(settings.claude / ".claude.json", json.dumps(configuration(settings)))
    projects = settings.claude / "projects"
    own_folder(projects)
    for project in _entries(projects):
        if not project.is_dir(follow_symlinks=False):
            remove(projects / project.name)
            continue
        own_folder(projects / project.name)
        for entry in _entries(projects / project.name):
            _keep_transcript(projects / project.name / entry.name, entry)


def make_temporary(folder: Path) -> None:
    """Create a new folder for temporary files, and remove anything that has its name: /tmp outlives a container, and
    the agent can write there and may own it. Raises `OSError` if that is not possible."""
    _allow_owner(folder.parent, os.stat(folder.parent))
    remove(folder)
    folder.mkdir(mode=0o700)


def configuration(settings: RuntimeSettings) -> dict[str, Any]:
    """Return the `.claude.json` that the Claude CLI would write at its first start; that would take 0.1 s of CPU time.
    It grants no permissions, and its ids identify no person: they are derived from the agent's name."""
    identity = hashlib.sha256(f"{settings.namespace}/{settings.agent}".encode()).hexdigest()
    unused = {"usageCount": 0, "lastUsedAt": 0, "lastUsedNumStartups": 0}
    return {
        "firstStartTime": "2026-01-01T00:00:00.000Z",
        "machineID": identity,
        "userID": identity,
        "migrationVersion": MIGRATION,
        "pluginUsage": {f"cc-plugin-{name}@builtin": unused for name in PLUGINS},
    }


def _keep_transcript(path: Path, entry: os.DirEntry[str]) -> None:
    if entry.is_file(follow_symlinks=False) and _TRANSCRIPT.fullmatch(entry.name):
        _allow_owner(path, entry.stat(follow_symlinks=False))
    elif entry.is_dir(follow_symlinks=False) and _SESSION.fullmatch(entry.name):
        own_folder(path)
        for part in _entries(path):
            if part.name not in KEPT_OF_A_SESSION or not part.is_dir(follow_symlinks=False):
                remove(path / part.name)
    else:
        remove(path)


def own_folder(path: Path) -> None:
    """Make `path` a folder that the runtime can read and write. Anything else at the path is renamed (`set_aside`)."""
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            _allow_owner(path, found)
            return
        set_aside(path)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def own_file(path: Path) -> bool:
    """Return whether `path` is a regular file, and make it readable and writable. Anything else at the path is renamed
    (`set_aside`)."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        set_aside(path)
        return False
    _allow_owner(path, found)
    return True


def set_aside(path: Path) -> None:
    """Rename `path` to `<name>.unreadable`. Anything that had that name is removed."""
    target = path.with_name(f"{path.name}.unreadable")
    remove(target)
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, target)


def remove(path: Path) -> None:
    """Remove a file or a tree, whatever its modes. If a part cannot be removed, rename the tree. Raises `OSError` if
    that fails too."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, onerror=_retry_with_rights)
    if path.exists():
        os.rename(path, path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}.unreadable"))


def _retry_with_rights(function: Callable[..., Any], path: str, _: object) -> None:
    """Error handler of `shutil.rmtree`: retry with the owner's rights restored."""
    with contextlib.suppress(OSError):
        for folder in (os.path.dirname(path), path):
            if stat.S_ISDIR(os.lstat(folder).st_mode):
                os.chmod(folder, 0o700)
        if function in (os.unlink, os.rmdir):
            function(path)
        else:
            shutil.rmtree(path, ignore_errors=True)


def write_private(path: Path, text: str) -> None:
    """Replace `path` by a new file that only its owner may read. A link or a pipe at the path is replaced, not
    followed."""
    remove(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def read_small(path: Path) -> str:
    """Return the first `SMALL_FILE_BYTES` of a regular file. Raises `OSError` for anything else. Never blocks on a
    pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no regular file")
        return file.read(SMALL_FILE_BYTES).decode("utf-8", "replace")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return list(found)


def _allow_owner(path: Path, found: os.stat_result) -> None:
    """Restore the owner's permissions if this user owns the file."""
    wanted = 0o700 if stat.S_ISDIR(found.st_mode) else 0o600
    if found.st_mode & wanted != wanted:
        with contextlib.suppress(PermissionError):
            os.chmod(path, stat.S_IMODE(found.st_mode) | wanted)
