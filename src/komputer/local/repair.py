"""`komputer repair`: makes a data directory with damaged files usable again, and reports what was lost."""

import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

from komputer.local import aof, database, valkey
from komputer.local.datadir import DataDir, Unusable, existing, set_aside

WORKSPACES = "Workspaces without an agent are moved to lost+found/ at the next start, never deleted."


def repair(path: Path | None, tell: Callable[[str], None]) -> None:
    """Check the objects and the event log, and repair what is damaged. `tell` prints what was found and done. A copy of
    each damaged file is kept beside it. Raises `NoDataDirectory`, `InUse` while a platform runs on the directory,
    `Unusable` if it cannot be written."""
    data = DataDir(existing(path), tell)
    try:
        _repair_objects(data.objects, tell)
        _repair_events(data.valkey, tell)
        data.save()
    except (OSError, sqlite3.Error) as wrong:
        raise Unusable(
            f"{data.path} could not be repaired: {wrong}; make room or fix the disk, and try again"
        ) from wrong


def _repair_objects(objects: Path, tell: Callable[[str], None]) -> None:
    damage = database.find_damage(objects)
    if damage is None:
        tell(f"objects: no damage in {objects}")
        return
    done = database.repair(objects)
    tell(f"objects: {damage}")
    tell(
        f"objects: {done.read} could be read, {done.restored} came from the copy of the last start; "
        f"the damaged files are in {done.copy}"
    )
    tell(f"objects: agents or settings that were created or changed since then may be missing. {WORKSPACES}")


def _repair_events(folder: Path, tell: Callable[[str], None]) -> None:
    valkey.stop_previous(folder)
    damage = aof.find_damage(folder)
    if damage is None and _loads(folder):
        tell(f"events: no damage in {folder / aof.FOLDER}")
        return
    if damage is not None:
        lost = damage.lost_bytes
        copy = aof.cut(folder, damage)
        tell(f"events: {damage}")
        what = "the event history of all agents" if damage.offset is None else f"the events of the last {lost} bytes"
        tell(f"events: lost is {what}; a copy is {copy}")
    if not _loads(folder):
        copy = set_aside(folder / aof.FOLDER)
        tell(f"events: Valkey cannot read what is left: the event history of all agents is lost; a copy is {copy}")
    tell("events: agents, workspaces, conversations and costs are not in the event log.")


def _loads(folder: Path) -> bool:
    """Return whether the server can load the log. Its messages go to a file that is deleted."""
    if aof.check_files(folder) is not None:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        return valkey.starts(folder, Path(scratch, "valkey.log"))
