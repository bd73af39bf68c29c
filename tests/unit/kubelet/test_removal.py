"""A tree that an agent has created is removed whatever its content, and nothing outside of it."""

import os
import shutil
import subprocess
import tempfile
import traceback
from pathlib import Path

import pytest

from komputer.local.kubelet.removal import MAX_OPEN_DEPTH, remove_tree

NOBODY = 65534


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "claim"
    folder.mkdir()
    return folder


def test_directories_without_permissions_are_removed() -> None:
    """Directories like those of Go's module cache, and worse. Modes do not stop root, so another user removes them in
    that case."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        tree = Path(folder, "claim")
        for mode in (0o000, 0o555, 0o111):
            below = tree / f"{mode:o}" / "x"
            below.mkdir(parents=True)
            (below / "f").write_text("f")
            below.chmod(mode)
            below.parent.chmod(mode)
        if os.getuid() == 0:
            subprocess.run(["chown", "-R", str(NOBODY), folder], check=True)
        child = os.fork()
        if child == 0:
            try:
                if os.getuid() == 0:
                    os.setuid(NOBODY)
                remove_tree(tree)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert not tree.exists()


def test_links_are_removed_and_not_followed(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    (outside / "mine").touch()
    (tree / "folder").symlink_to(outside)
    (tree / "file").symlink_to(outside / "mine")
    os.link(outside / "mine", tree / "hard")
    remove_tree(tree)
    assert not tree.exists()
    assert [path.name for path in outside.iterdir()] == ["mine"]
    assert outside.stat().st_mode & 0o777 == 0o500


def test_trees_of_any_depth_and_with_any_names_are_removed(tree: Path) -> None:
    here = os.open(tree, os.O_RDONLY)
    for _ in range(10 * MAX_OPEN_DEPTH + 3):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open(b"\xff\n\xfe", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.mkfifo("pipe", dir_fd=here)
    os.close(here)
    remove_tree(tree)
    assert not tree.exists()


def test_immutable_files_are_removed_by_root(tree: Path) -> None:
    (tree / "f").touch()
    (tree / "d").mkdir()
    (tree / "d" / "f").touch()
    chattr = shutil.which("chattr")
    if os.getuid() != 0 or chattr is None:
        pytest.skip("only root may make a file immutable")
    done = subprocess.run([chattr, "+i", str(tree / "f"), str(tree / "d")], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this file system has no such attributes: {done.stderr.strip()}")
    remove_tree(tree)
    assert not tree.exists()


def test_the_first_failure_is_reported_and_the_rest_is_removed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "stays", "z"):
        (tree / name).touch()
    real = os.unlink

    def unlink(path: str, *, dir_fd: int) -> None:
        if path == "stays":
            raise PermissionError(1, "Operation not permitted", path)
        real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(OSError, match="stays"):
        remove_tree(tree)
    assert [path.name for path in tree.iterdir()] == ["stays"]


def test_a_missing_path_counts_as_removed(tmp_path: Path) -> None:
    remove_tree(tmp_path / "no" / "such")
    remove_tree(tmp_path / "none")
    (tmp_path / "file").touch()
    remove_tree(tmp_path / "file")
    assert not (tmp_path / "file").exists()
