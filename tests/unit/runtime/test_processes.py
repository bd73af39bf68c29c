"""The end of a task's processes, on real ones."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Claude ends its own commands")

BEGIN = """
import asyncio, os, sys, time
from komputer.runtime import processes
processes.adopt_orphans()
"""


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-c", BEGIN + program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_sweep_ends_processes_that_left_their_group_and_their_parent() -> None:
    program = """
import subprocess
subprocess.run(["sh", "-c", "for i in 1 2 3; do setsid sleep 600 >/dev/null 2>&1 & done"])
asyncio.run(processes.sweep())
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("nothing is left")
"""
    assert run(program) == "nothing is left\n"


def test_a_sweep_never_takes_what_proc_does_not_show_in_time_for_ended() -> None:
    """A process that forks and leaves again and again is never there when it is looked for and then killed."""
    program = """
processes.SWEEP_S = 0.3
processes.children = lambda: []
forked = os.fork()
if forked == 0:
    time.sleep(600)
try:
    asyncio.run(processes.sweep())
except processes.StillRunning:
    print("noticed")
finally:
    os.kill(forked, 9)
"""
    assert run(program) == "noticed\n"


def test_a_stopped_process_is_continued_and_a_running_one_left_alone() -> None:
    said = run("""
import signal, subprocess
child = subprocess.Popen([sys.executable, "-I", "-c", "print(input())"], stdin=-1, stdout=-1)
processes.resume_stopped(child.pid)
child.send_signal(signal.SIGSTOP)
while processes._stat(str(child.pid))[0] != "T":
    time.sleep(0.01)
processes.resume_stopped(child.pid)
print(child.communicate(b"on", timeout=30)[0].decode().strip())
processes.resume_stopped(child.pid)
processes.resume_stopped(None)
""")
    assert said == "on\n"
