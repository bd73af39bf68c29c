"""Which files a process in a real bubblewrap sandbox can change that a later task runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from komputer.local.kubelet import sandbox
from komputer.local.kubelet.sandbox import Mount, bubblewrap, bubblewrap_command, why_no_sandbox

pytestmark = pytest.mark.skipif(why_no_sandbox() is not None, reason="bubblewrap does not work here")

ATTACK = """
import os, sys
def attempt(what, *arguments):
    try:
        what(*arguments)
    except OSError:
        return
    print("changed", what.__name__, *arguments)
    if what is os.rename:
        os.rename(*reversed(arguments))
for name in os.listdir("/"):
    attempt(os.rename, f"/{name}", f"/{name}-moved")
attempt(os.mkdir, "/home")
for name in os.listdir("/dev"):
    attempt(os.rename, f"/dev/{name}", f"/dev/{name}-moved")
program = sys.argv[1]
while program != "/":
    attempt(os.rename, program, program + "-moved")
    program = os.path.dirname(program)
    if program == "/tmp":
        break
for folder in ("/workspace", "/tmp", "/dev/shm"):
    with open(f"{folder}/file", "w") as file:
        file.write("kept")
    print("wrote", folder)
"""


def output(program: Path, tmp_path: Path) -> list[str]:
    for name in ("workspace", "tmp", "etc"):
        (tmp_path / name).mkdir()
    line = bubblewrap_command(
        [sys.executable, "-I", "-c", ATTACK, str(program)],
        [Mount(tmp_path / "workspace", "/workspace"), Mount(tmp_path / "tmp", "/tmp")],
        working_dir="/workspace",
        info_fd=2,
        program=bubblewrap() or "bwrap",
        etc=tmp_path / "etc",
    )
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_an_agent_cannot_replace_programs_libraries_or_devices_of_its_sandbox(tmp_path: Path) -> None:
    lines = output(Path(sys.prefix), tmp_path)
    assert [line for line in lines if line.startswith("wrote")] == ["wrote /workspace", "wrote /tmp", "wrote /dev/shm"]
    assert [line for line in lines if line.startswith("changed")] == []


def test_an_installation_below_tmp_cannot_be_moved_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "checkout" / "venv"
    installed.mkdir(parents=True)
    if not installed.is_relative_to("/tmp"):
        pytest.skip("the tests' folder is not below /tmp")
    folders = [*sandbox.program_folders(), installed]
    monkeypatch.setattr(sandbox, "program_folders", lambda: folders)
    assert [line for line in output(installed, tmp_path) if line.startswith("changed")] == []
