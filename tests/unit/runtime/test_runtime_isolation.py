"""No Python file that an agent can write is imported by a process that the platform starts, and nobody reads the
runtime's memory."""

import json
import re
import subprocess
import sys
from pathlib import Path

import komputer
from komputer.runtime import processes

ROOT = Path(__file__).parents[3]
STARTS = re.compile(r'"-m", ?"komputer|python", "-c"|sys\.executable, "(?!-[IP]")')
"""An argument list that starts Python on one of our modules, or on a program."""


def test_every_python_process_that_we_start_is_isolated() -> None:
    files = [*Path(komputer.__file__).parent.rglob("*.py"), *ROOT.glob("images/*/Containerfile")]
    found = [
        (file.name, line.strip())
        for file in files
        for line in file.read_text("utf-8").split("\n")
        if STARTS.search(line)
    ]
    assert len(found) >= 4, "the pattern finds them"
    assert [each for each in found if not re.search(r'"-[IP]"', each[1])] == []


def test_an_isolated_runtime_imports_nothing_from_its_folder(tmp_path: Path) -> None:
    for name in ("random", "json", "sqlite3", "httpx", "komputer", "sitecustomize", "usercustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hijacked')")
    variables = {
        "PYTHONPATH": str(tmp_path),
        "PYTHONHOME": str(tmp_path),
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-m", "komputer.runtime"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("komputer.runtime: KOMPUTER_GATEWAY_URL is not set"), done.stderr


def test_the_memory_of_the_runtime_is_closed_and_its_children_s_is_not() -> None:
    program = (
        "import ctypes, json, subprocess, sys\n"
        "from komputer.runtime import processes\n"
        "ask = 'import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))'\n"
        "processes.close_memory()\n"
        "child = subprocess.run([sys.executable, '-I', '-c', ask], capture_output=True, text=True).stdout\n"
        "print(json.dumps([ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), int(child)]))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [0, 1]


def test_the_command_that_starts_claude_is_part_of_the_package() -> None:
    launcher = processes.launcher()
    assert launcher is None or launcher.is_relative_to(Path(komputer.__file__).parent)
