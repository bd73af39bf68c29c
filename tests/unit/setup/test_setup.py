"""`make up` on a machine that lacks something: a sentence that says what to install."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("hack/setup.sh", "requirements/dev.txt", "requirements/setup.txt", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def set_up(checkout: Path, interpreter: str) -> subprocess.CompletedProcess[str]:
    """With an interpreter whose answers are scripted; the cases of `$2` are the code that it is asked to run."""
    fake = checkout / "python"
    fake.write_text(f"#!/bin/sh\n{interpreter}\n")
    fake.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(fake)}
    command = [str(checkout / "hack" / "setup.sh")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_python_that_is_too_old_is_named_with_what_to_install(checkout: Path) -> None:
    done = set_up(checkout, '[ "$1" = --version ] && echo Python 3.10.12 && exit 0; exit 1')
    assert done.returncode == 1
    assert "needs Python 3.11, 3.12 or 3.13; found: Python 3.10.12" in done.stderr
    assert "make up PYTHON=" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_missing_ensurepip_is_named_with_what_to_install(checkout: Path) -> None:
    done = set_up(checkout, f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"')
    assert done.returncode == 1
    assert "has no ensurepip" in done.stderr
    assert "-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def test_an_environment_without_its_python_is_made_anew(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to("/nonexistent/python3.11")
    (checkout / ".venv" / ".ready").touch()
    done = set_up(checkout, f'case "$1" in -m) mkdir .venv; exit 1;; esac; exec {sys.executable} "$@"')
    assert "creating it again" in done.stdout
    assert "could not create .venv" in done.stderr
    assert not (checkout / ".venv").exists(), "nothing half-made is left"
