"""Data directories: which can be used, by one platform at a time, and their identity."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from komputer.local.datadir import DataDir, InUse, Unusable

SHUT = (
    "import sys; from pathlib import Path; from komputer.local.datadir import DataDir; d = DataDir(Path(sys.argv[1]))"
)


@contextmanager
def opened(path: Path) -> Iterator[tuple[DataDir, list[str]]]:
    """As a platform has it while it runs."""
    notes: list[str] = []
    data = DataDir(path, notes.append)
    data.save()
    try:
        yield data, notes
    finally:
        for held in (data._directory, data._lock):
            os.close(held)
        data._name.close()


def identity(path: Path) -> tuple[str, str]:
    with opened(path) as (data, _):
        return data.installation, data.token


def other_platform(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SHUT, str(path)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("where", ["file", "file/below", "/proc/komputer", "/dev/null", "foreign", "dangling", "loop"])
def test_a_directory_that_cannot_be_used_is_refused_with_a_sentence(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").touch()
    (tmp_path / "dangling").symlink_to("nowhere/below")
    (tmp_path / "loop").symlink_to("loop")
    mode = (tmp_path / "foreign").stat().st_mode
    with pytest.raises(Unusable, match="--data-dir") as refused:
        DataDir(tmp_path / where)
    assert ("leads nowhere" in refused.value.args[0]) is (where in ("dangling", "loop"))
    assert (tmp_path / "foreign").stat().st_mode == mode


def test_a_restart_and_a_rename_keep_the_identity(tmp_path: Path) -> None:
    first = identity(tmp_path / "a")
    assert identity(tmp_path / "a") == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert identity(tmp_path / "b") == first


def test_a_copy_becomes_a_separate_installation_and_is_reported(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as (original, _):
        original.listen("gateway").close()
        original.save()
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        with opened(tmp_path / "b") as (copy, notes):
            assert copy.installation != original.installation
            assert copy.token != original.token
            assert "copy" in notes[0]
            kept = copy.installation
    assert identity(tmp_path / "b")[0] == kept
    assert identity(tmp_path / "a")[0] == original.installation


def test_two_that_run_at_once_are_never_the_same_installation(tmp_path: Path) -> None:
    """Also where the inode says nothing: a copied disk image has the same."""
    with opened(tmp_path / "a") as (original, _):
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        settings = json.loads((tmp_path / "b" / "komputer.json").read_text())
        settings["inode"] = (tmp_path / "b").stat().st_ino
        (tmp_path / "b" / "komputer.json").write_text(json.dumps(settings))
        with opened(tmp_path / "b") as (copy, _):
            assert copy.installation != original.installation


def test_a_second_platform_is_refused_also_when_the_lock_was_removed(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as (data, _):
        (tmp_path / "a" / "lock").unlink()
        assert "already runs" in other_platform(tmp_path / "a").stderr
        data.restore()
        assert (tmp_path / "a" / "lock").exists()
        assert data.why_lost() is None
        (tmp_path / "a").rename(tmp_path / "b")
        assert "removed or renamed" in (data.why_lost() or "")
        (tmp_path / "a").mkdir()
        assert "replaced" in (data.why_lost() or "")
        assert "already runs" in other_platform(tmp_path / "b").stderr
    assert other_platform(tmp_path / "b").returncode == 0


@pytest.mark.parametrize(
    "content",
    [b"", bytes(100), b"{", b"[]", b"\xff", b'{"format": "x"}', b'{"format": 1, "token": 1, "ports": {}}', b"[" * 9999],
)
def test_a_damaged_settings_file_is_set_aside_and_replaced(tmp_path: Path, content: bytes) -> None:
    identity(tmp_path / "a")
    (tmp_path / "a" / "komputer.json").write_bytes(content)
    with opened(tmp_path / "a") as (_, notes):
        assert "damaged" in notes[0]
    (aside,) = (tmp_path / "a").glob("komputer.json.damaged-*")
    assert aside.read_bytes() == content


def test_odd_ports_are_ignored_and_a_newer_format_is_refused(tmp_path: Path) -> None:
    identity(tmp_path / "a")
    file = tmp_path / "a" / "komputer.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "ports": {"gateway": -1, "model": "x", "kubernetes": True}}))
    with opened(tmp_path / "a") as (data, _):
        data.listen("gateway").close()
    file.write_text(json.dumps({**settings, "format": 99}))
    with pytest.raises(InUse, match="newer Komputer"):
        DataDir(tmp_path / "a")


@pytest.mark.parametrize("name", ["objects.db", "kubeconfig", "komputer.json", "lock"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_directory_in_place_of_a_file_is_refused(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    identity(tmp_path / "a")
    (tmp_path / "a" / name).unlink(missing_ok=True)
    make(tmp_path / "a" / name)
    with pytest.raises(Unusable, match=f"{name} is not a regular file; move it away"):
        DataDir(tmp_path / "a")
