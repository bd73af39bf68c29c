"""The supervisor with parts that fail in every way. Each test runs it in a child process."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

HEAD = """
import os, sys, time
from komputer.local import supervisor
from komputer.local.supervisor import Fatal, Part, Supervisor
from komputer.local.terminal import tell
supervisor.restart_pause = lambda failures: 0.05
supervisor.WATCH_S = 0.05

def serves(ready):
    ready()
    time.sleep(60)

def count(name):
    with open(name, "a") as file:
        file.write("x")
    return os.path.getsize(name)
"""


def supervised(folder: Path, program: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HEAD + textwrap.dedent(program)]
    given: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 180, "check": False} | options
    found: subprocess.CompletedProcess[str] = subprocess.run(command, cwd=folder, **given)
    return found


def test_a_part_that_never_starts_ends_the_platform_with_its_log(tmp_path: Path) -> None:
    done = supervised(
        tmp_path,
        """
        def fails(ready):
            count("tries")
            sys.exit(3)
        parts = [Part("good", serves), Part("bad", fails)]
        sys.exit(Supervisor(parts, tell, last_lines=lambda name: [f"why {name} fails"]).run(lambda: None))
        """,
    )
    assert done.returncode == 1
    assert (tmp_path / "tries").read_text() == "x" * 5
    assert "why bad fails" in done.stdout
    assert "bad does not start" in done.stdout


def test_a_part_that_fails_repeatedly_later_is_reported_once_and_the_others_run(tmp_path: Path) -> None:
    done = supervised(
        tmp_path,
        """
        def fails(ready):
            ready()
            time.sleep(0.02)
            if count("tries") == 12:
                os.kill(os.getppid(), 15)
            sys.exit(3)
        parts = [Part("good", serves), Part("bad", fails)]
        sys.exit(Supervisor(parts, tell, last_lines=lambda name: [f"why {name} fails"]).run(lambda: None))
        """,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "good" not in done.stdout.replace("good        started", "")
    assert 1 <= done.stdout.count("why bad fails") < 12


def test_a_part_that_cannot_run_is_reported_and_not_restarted(tmp_path: Path) -> None:
    done = supervised(
        tmp_path,
        """
        def refuses(ready):
            count("tries")
            raise Fatal("the file is damaged: do this")
        sys.exit(Supervisor([Part("good", serves), Part("bad", refuses)], tell).run(lambda: None))
        """,
    )
    assert done.returncode == 1
    assert (tmp_path / "tries").read_text() == "x"
    assert "the file is damaged: do this" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_part_that_waits_for_one_that_cannot_run_does_not_hold_up_the_end(tmp_path: Path) -> None:
    done = supervised(
        tmp_path,
        """
        import signal
        def waits(ready):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            count("waits")
            time.sleep(600)
        def refuses(ready):
            while not os.path.exists("waits"):
                time.sleep(0.01)
            raise Fatal("damaged")
        supervisor.UNREADY_STOP_S = 0.2
        parts = [Part("bad", refuses), Part("waiting", waits, stop_s=500)]
        sys.exit(Supervisor(parts, tell).run(lambda: None))
        """,
    )
    assert done.returncode == 1
    assert "was killed" not in done.stdout


def test_a_reason_from_watch_stops_the_platform(tmp_path: Path) -> None:
    done = supervised(
        tmp_path,
        """
        sys.exit(Supervisor([Part("good", serves)], tell, watch=lambda: "the directory is gone").run(lambda: None))
        """,
    )
    assert done.returncode == 1
    assert "the directory is gone" in done.stdout


RESTARTS = """
def dies(ready):
    ready()
    if count("tries") == 3:
        os.kill(os.getppid(), 15)
        time.sleep(60)
    sys.exit(3)
sys.exit(Supervisor([Part("bad", dies)], tell).run(lambda: tell("ready")))
"""


@pytest.mark.parametrize("output", ["closed pipe", "full disk", "full pipe", "closed"])
def test_a_restart_survives_an_output_that_takes_nothing(tmp_path: Path, output: str) -> None:
    reader, writer = os.pipe()
    try:
        if output == "closed pipe":
            os.close(reader)
        if output == "full pipe":
            os.set_blocking(writer, False)
            while True:
                try:
                    os.write(writer, b"x" * 4096)
                except BlockingIOError:
                    break
            os.set_blocking(writer, True)
        target = os.open("/dev/full", os.O_WRONLY) if output == "full disk" else writer
        closing = "os.close(1)\n" if output == "closed" else ""
        done = supervised(tmp_path, closing + RESTARTS, capture_output=False, stdout=target, stderr=subprocess.PIPE)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "tries").read_text() == "xxx"
    finally:
        for descriptor in {reader, writer} - ({reader} if output == "closed pipe" else set()):
            os.close(descriptor)


def test_a_line_that_the_terminal_cannot_show_is_printed_as_well_as_it_can(tmp_path: Path) -> None:
    done = supervised(
        tmp_path, "tell('data in /tmp/\\u00e9\\udcff')", env={**os.environ, "PYTHONIOENCODING": "ascii", "LANG": "C"}
    )
    assert done.stdout == "data in /tmp/\\xe9\\udcff\n"
