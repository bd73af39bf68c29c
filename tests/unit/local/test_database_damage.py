"""Damage in the database of the objects is found before it is served, and a repair loses as little as possible."""

import os
import random
import shutil
import sqlite3
from pathlib import Path

import orjson
import pytest

from komputer.local import database
from komputer.local.apiserver.store import ObjectDatabase
from komputer.local.parts import check_objects
from komputer.local.supervisor import Fatal

OBJECTS = 120
ROUNDS = 25


def manifest(n: int, revision: int = 1) -> dict[str, object]:
    return {
        "metadata": {"namespace": "default", "name": f"a{n:04}", "uid": f"uid-{n}", "resourceVersion": str(revision)},
        "spec": {"text": "x" * (n * 13 % 3000)},
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`clean/`: closed after its last write. `killed/`: as the files lie after `kill -9`, with a WAL."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("clean", "killed"):
        (folder / name).mkdir()
    store = ObjectDatabase(folder / "clean" / "objects.db", history_length=10)
    for n in range(OBJECTS):
        store.put("komputeragents", manifest(n))
    store.close()
    shutil.copy2(folder / "clean" / "objects.db", folder / "objects.db")
    store = ObjectDatabase(folder / "objects.db", history_length=10)
    for n in range(OBJECTS, OBJECTS + 20):
        store.put("komputeragents", manifest(n))
    for name in ("objects.db", "objects.db-wal"):
        shutil.copy2(folder / name, folder / "killed" / name)
    store.close()
    return folder


def names(path: Path) -> set[str]:
    store = ObjectDatabase(path, history_length=10)
    found = {stored.address[2] for stored in store.all_objects()}
    store.close()
    return found


def every(count: int) -> set[str]:
    return {f"a{n:04}" for n in range(count)}


def test_sound_files_have_no_damage(files: Path, tmp_path: Path) -> None:
    for state, count in (("clean", OBJECTS), ("killed", OBJECTS + 20)):
        path = shutil.copytree(files / state, tmp_path / state) / "objects.db"
        assert database.find_damage(path) is None
        assert names(path) == every(count)
    assert database.find_damage(tmp_path / "none.db") is None


def test_a_truncated_or_overwritten_file_is_damage_and_a_repair_keeps_what_can_be_read(
    files: Path, tmp_path: Path
) -> None:
    chance = random.Random("file")
    whole = (files / "clean" / "objects.db").read_bytes()
    kept = []
    for n in range(ROUNDS):
        folder = tmp_path / str(n)
        folder.mkdir()
        path = folder / "objects.db"
        at = chance.randrange(1, len(whole) - 1)
        damaged = whole[:at] if n % 2 else whole[:at] + bytes(min(4096, len(whole) - at)) + whole[at + 4096 :]
        path.write_bytes(damaged)
        if database.find_damage(path) is None:  # it hit what nobody uses, or text without a checksum
            assert names(path) == every(OBJECTS)
            continue
        done = database.repair(path)
        assert (done.copy / "objects.db").read_bytes() == damaged
        assert database.find_damage(path) is None
        assert names(path) <= every(OBJECTS)
        kept.append(len(names(path)))
    assert max(kept) > OBJECTS // 2, "one bad page does not cost everything"


def test_a_repair_takes_what_is_lost_from_the_copy_of_the_last_start(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "objects.db"
    shutil.copy2(files / "clean" / "objects.db", path)
    database.back_up(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], bytes(8192) + whole[8192:], whole[:8192] + bytes(20_000) + whole[28_192:]):
        path.write_bytes(damaged)
        done = database.repair(path)
        assert names(path) == every(OBJECTS), done
        assert done.read + done.restored == OBJECTS
    with sqlite3.connect(path) as connection:
        (revision,) = connection.execute("SELECT value FROM state WHERE name = 'revision'").fetchone()
    assert revision > max(int(orjson.loads(raw)["metadata"]["resourceVersion"]) for raw in raws(path))


def raws(path: Path) -> list[bytes]:
    with sqlite3.connect(path) as connection:
        return [raw for (raw,) in connection.execute("SELECT object FROM objects")]


def test_a_write_that_sqlite_would_leave_out_is_damage(files: Path, tmp_path: Path) -> None:
    chance = random.Random("wal")
    whole = (files / "killed" / "objects.db-wal").read_bytes()
    for n in range(ROUNDS):
        folder = tmp_path / str(n)
        folder.mkdir()
        path, wal = folder / "objects.db", folder / "objects.db-wal"
        shutil.copy2(files / "killed" / "objects.db", path)
        at = chance.randrange(1, len(whole) - 3 * 4120)
        wal.write_bytes(whole[:at] + bytes(64) + whole[at + 64 :])
        if wal.read_bytes() == whole:
            continue
        damage = database.find_damage(path)
        assert damage is not None, at
        assert damage.file == wal
        database.repair(path)
        assert database.find_damage(path) is None
        assert every(OBJECTS) <= names(path) <= every(OBJECTS + 20)


def test_a_torn_end_of_the_write_ahead_log_is_none(files: Path, tmp_path: Path) -> None:
    chance = random.Random("end")
    whole = (files / "killed" / "objects.db-wal").read_bytes()
    for n in range(ROUNDS):
        folder = tmp_path / str(n)
        folder.mkdir()
        shutil.copy2(files / "killed" / "objects.db", folder / "objects.db")
        at = chance.randrange(33, len(whole))
        (folder / "objects.db-wal").write_bytes(whole[:at] + (bytes(len(whole) - at) if n % 2 else b""))
        assert database.find_damage(folder / "objects.db") is None
        assert every(OBJECTS) <= names(folder / "objects.db") <= every(OBJECTS + 20)


@pytest.mark.parametrize("name", ["objects.db", "objects.db-wal"])
def test_a_pipe_in_place_of_the_file_ends_the_start_with_a_sentence(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(Fatal, match=f"{name} is not a regular file"):
        check_objects(tmp_path / "objects.db")
