"""Reserved disk space is usable when the disk is full."""

import os
import shutil
from pathlib import Path

import pytest

from komputer.local import disk
from komputer.local.supervisor import Supervisor
from tests.fixtures.disks import fill_bytes, fill_inodes, small_disk


def test_a_disk_without_bytes_or_inodes_is_reported_with_a_remedy(tmp_path: Path) -> None:
    with small_disk(tmp_path / "d", size_mib=24, inodes=300) as folder:
        assert disk.shortage(folder) is None
        filling = fill_inodes(folder)
        assert "too few inodes (fewer than 64 free): delete agents or files" in str(disk.shortage(folder))
        shutil.rmtree(filling)
        assert disk.shortage(folder) is None
        fill_bytes(folder)
        assert "is full (less than 8 MiB free): delete agents or files" in str(disk.shortage(folder))


def test_preallocated_space_can_be_written_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "d", size_mib=24) as folder:
        path = folder / "log"
        path.write_bytes(b"x" * 1000)
        if not disk.allocate_ahead(path, 1024 * 1024):
            pytest.skip("this file system cannot allocate ahead")
        assert path.stat().st_size == 1000
        fill_bytes(folder)
        with path.open("ab", buffering=0) as file:
            assert file.write(b"y" * 1_000_000) == 1_000_000
        with pytest.raises(OSError, match="No space left"), (folder / "other").open("wb", buffering=0) as other:
            other.write(b"z" * 4096)


def test_a_start_on_a_full_disk_frees_the_reserve_and_restores_it_later(tmp_path: Path) -> None:
    with small_disk(tmp_path / "d", size_mib=24, inodes=300) as folder:
        disk.fill_reserve(folder)
        assert disk.open_reserve(folder) is None
        filling = fill_bytes(folder)
        assert "is full" in str(disk.open_reserve(folder))
        (folder / "kubeconfig").write_bytes(b"x" * disk.RESERVE_BYTES)
        with pytest.raises(OSError, match="No space left"):
            disk.fill_reserve(folder)
        assert not (folder / "reserve.new").exists()
        filling.unlink()
        disk.fill_reserve(folder)
        assert len(os.listdir(folder / "reserve")) == disk.RESERVE_INODES


def test_valkey_writes_to_its_newest_file(tmp_path: Path) -> None:
    folder = tmp_path / "valkey" / "appendonlydir"
    folder.mkdir(parents=True)
    for name in ("appendonly.aof.9.incr.aof", "appendonly.aof.10.incr.aof", "appendonly.aof.10.base.rdb"):
        (folder / name).touch()
    names = [path.name for path in disk.growing_files(tmp_path)]
    assert names == ["appendonly.aof.10.incr.aof", "objects.db", "objects.db-wal"]


def test_the_terminal_shows_a_full_disk_once_and_its_end_once() -> None:
    printed: list[str] = []
    problems = iter([None, "the disk is full", "the disk is full", None, None])
    supervisor = Supervisor([], printed.append, problem=lambda: next(problems))
    for _ in range(5):
        supervisor._tell_problem()
    assert printed == ["  the disk is full", "  the disk has space again"]
